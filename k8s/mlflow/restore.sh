# Restore the newest backup (or $BACKUP) into the database, in one transaction, and add its artifacts. MLflow must not run meanwhile.
# Refuses if the database has runs, unless REPLACE=yes.
set -eu
cd "$BACKUPS"
name=${BACKUP:-$(ls -d [0-9]*Z | sort -r | head -n 1)}
[ -n "$name" ] && [ -d "$name" ] || { echo "error: there is no backup ${name:-at all} in $BACKUPS" >&2; exit 1; }
echo "comparing $name with its checksums"
(cd "$name" && sha256sum --check --quiet --strict SHA256SUMS) || { echo "error: backup $name is damaged" >&2; exit 1; }
holds() { psql --no-psqlrc --tuples-only --no-align --command "$1"; }
if [ "$(holds "SELECT to_regclass('runs') IS NOT NULL")" = t ] && [ "$(holds 'SELECT count(*) FROM runs')" != 0 ]; then
  [ "${REPLACE:-}" = yes ] || { echo "error: MLflow holds runs here; with REPLACE=yes they are lost" >&2; exit 1; }
fi
# Files first: nobody sees files that the database does not name yet.
tar -C "$ARTIFACTS" -xzf "$name/artifacts.tar.gz" --no-overwrite-dir
pg_restore --dbname="${PGDATABASE:-mlflow}" --clean --if-exists --no-owner --single-transaction "$name/mlflow.dump"
echo "restored $name: $(holds 'SELECT count(*) FROM runs') runs, $(holds 'SELECT count(*) FROM model_versions') versions"
