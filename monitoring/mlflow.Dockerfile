# MLflow for `make up`: the server with its PostgreSQL driver, as an unprivileged user.
# The build context is requirements/, so that nothing else of the repository is sent to the engine.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
COPY server.txt .
# --only-binary: compiling a package would need a compiler, which this base image lacks.
RUN python -m venv /opt/mlflow \
    && /opt/mlflow/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes -r server.txt \
    && rm -rf /opt/mlflow/lib/python*/site-packages/pip

FROM ${PYTHON_IMAGE}
COPY --from=packages /opt/mlflow /opt/mlflow
# A new volume gets owner and mode of the folder that it is mounted on.
RUN mkdir /artifacts && chown 10001:10001 /artifacts
ENV PATH=/opt/mlflow/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
EXPOSE 5000
