# Back up MLflow's database (with accounts) and artifacts into $BACKUPS/DATE, all or nothing. PGHOST and the other variables of libpq say where the database is.
# The database first: what is written meanwhile is then an extra file, never a missing one.
set -eu
umask 077
cd "$BACKUPS"
rm -rf .making-*
name=$(date -u +%Y-%m-%dT%H%M%SZ)
making=.making-$name
mkdir "$making"
pg_dump --format=custom --file="$making/mlflow.dump"
pg_restore --file=/dev/null "$making/mlflow.dump" # reads it to the end: its table of contents is at the beginning
# A file that changes while it is read belongs to an active run: tar then ends with status 1.
tar -C "$ARTIFACTS" --exclude=./lost+found -czf "$making/artifacts.tar.gz" . || [ $? -eq 1 ]
gzip --test "$making/artifacts.tar.gz"
(cd "$making" && sha256sum mlflow.dump artifacts.tar.gz > SHA256SUMS)
sync
mv "$making" "$name"
du -sh "$name"
ls -d [0-9]*Z | sort -r | tail -n "+$((KEPT + 1))" | while read -r old; do
  rm -rf "$old"
  echo "removed $old: the newest $KEPT are kept"
done
