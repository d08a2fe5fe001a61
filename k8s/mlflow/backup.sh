# Copy MLflow's database, accounts included, and its artifacts into $BACKUPS/DATE: whole or not at all. PGHOST and its like say where.
# The database first: what is written meanwhile is then a file too many, never one too few.
set -eu
umask 077
cd "$BACKUPS"
rm -rf .making-*
name=$(date -u +%Y-%m-%dT%H%M%SZ)
making=.making-$name
mkdir "$making"
pg_dump --format=custom --file="$making/mlflow.dump"
pg_restore --file=/dev/null "$making/mlflow.dump" # to its end: its list alone stands at the beginning
# One file that changes while it is read belongs to a run that is still going on: tar says so with status 1.
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
