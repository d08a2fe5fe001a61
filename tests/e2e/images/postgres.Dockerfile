# A stand-in for the image postgres, from Debian's package: same variables, folders, user and trust inside the container.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 999 postgres && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql postgres \
    && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql && ln -s /usr/lib/postgresql/* /usr/lib/postgresql/current \
    && mkdir -p /var/lib/postgresql/data && chown -R postgres:postgres /var/lib/postgresql && chmod 3777 /run/postgresql
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/current/bin:$PATH PGDATA=/var/lib/postgresql/data
COPY postgres-entrypoint.sh /
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/postgres-entrypoint.sh"]
