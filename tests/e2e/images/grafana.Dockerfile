# Holds Grafana's place in `make up`: it answers its health page and shows what it was given, and is nothing more.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget >/dev/null \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /var/lib/grafana && chown 472:0 /var/lib/grafana
COPY grafana.py /
USER 472:0
STOPSIGNAL SIGKILL
ENTRYPOINT ["python", "/grafana.py"]
