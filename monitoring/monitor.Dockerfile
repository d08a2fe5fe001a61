# Judges production by its prediction log, tells people, and starts a retraining (docs/monitoring.md), for a place without a checkout: the
# component k8s/components/monitor and the service `monitor` of compose.yaml. From the root of the repository:
#   docker build -f monitoring/monitor.Dockerfile -t slipway-monitor .
# It contains the code of the verbs, and your project/ and pipeline.toml: no data, no secret, no model. Build it anew after a change of these.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
COPY requirements/pipeline.txt /tmp/pipeline.txt
# Wheels only: no compiler is needed, and no package runs code during the build. No verb here runs a package's own tests.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --no-compile \
    --only-binary=:all: --require-hashes -r /tmp/pipeline.txt \
 && find /opt/venv -name tests -type d -prune -exec rm -r {} +
COPY pipeline.toml /app/
COPY requirements/pipeline.txt /app/requirements/
COPY project /app/project
COPY serving /app/serving
COPY pipeline /app/pipeline
COPY delivery /app/delivery
COPY scripts /app/scripts
# Volumes that are mounted at these two folders take their owner from here: one has the log of the target docker.
RUN chmod -R u=rwX,go=rX /app && mkdir -p /build /own/data && chmod 700 /own/data

FROM ${PYTHON_IMAGE}
# The root file system may be read-only: only /tmp and /app/build are written.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp MPLCONFIGDIR=/tmp MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /build /app/build
COPY --from=build --chown=10001:10001 /own/ /
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
ENTRYPOINT ["python", "-m", "scripts.ci.watch"]
