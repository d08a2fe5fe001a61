# The webhook relay (docs/promote-in-mlflow.md): starts a workflow on GitHub for MLflow's webhooks and Alertmanager's alerts. From the root of the repository:
#   docker build -f monitoring/relay.Dockerfile -t slipway-relay .
# It contains only the modules that the relay imports, and no MLflow.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
COPY requirements/relay.txt /tmp/relay.txt
# Wheels only: no compiler is needed, and no package runs code during the build.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir \
    --only-binary=:all: --require-hashes -r /tmp/relay.txt
COPY pipeline/__init__.py pipeline/artifacts.py pipeline/errors.py /app/pipeline/
COPY pipeline/ci/__init__.py pipeline/ci/chat.py pipeline/ci/outputs.py /app/pipeline/ci/
COPY pipeline/registry/__init__.py pipeline/registry/webhooks.py /app/pipeline/registry/
COPY scripts/__init__.py /app/scripts/
COPY scripts/mlflow/__init__.py scripts/mlflow/webhook_relay.py /app/scripts/mlflow/
COPY delivery/__init__.py /app/delivery/
COPY delivery/relay/__init__.py delivery/relay/alerts.py delivery/relay/app.py delivery/relay/metrics.py delivery/relay/remote.py delivery/relay/server.py delivery/relay/worker.py /app/delivery/relay/
RUN chmod -R u=rwX,go=rX /app

FROM ${PYTHON_IMAGE}
# The root file system may be read-only: nothing is written.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
EXPOSE 8010
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
ENTRYPOINT ["python", "-m", "scripts.mlflow.webhook_relay"]
CMD ["--host", "0.0.0.0"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-ISc", "import socket; s = socket.create_connection(('127.0.0.1', 8010), 2); s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
