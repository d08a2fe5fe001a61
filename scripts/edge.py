"""Make a folder in which the model answers without the service and without a network: in Python, in Node and in a page.

    make edge                   # the bundle that was registered last, build/bundle
    make edge VERSION=7         # a registered version
    make edge ARGS=--json

Writes build/edge/. Each of the three checks the golden rows by itself (docs/edge.md).
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from delivery import deployment
from delivery.edge import folder as edge_folder
from delivery.edge import packages
from pipeline.artifacts import BUILD, ROOT, STATE, read_json, replace_directory
from pipeline.errors import StageError, edge
from pipeline.formats import bundle
from pipeline.registry import versions
from pipeline.registry.embedded import sync
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the folder and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", help="the registered version (default: build/bundle)")
    parser.add_argument("--json", action="store_true", help="say what is in the folder as JSON")
    options = parser.parse_args(argv)
    with source(options.version) as found:
        edge_folder.refuse(read_json(found / "contract.json"))  # before anything is fetched
        runtimes = packages.fetch(STATE / "edge")
        work = BUILD / ".edge"
        shutil.rmtree(work, ignore_errors=True)
        made = edge_folder.write(found, work, runtimes)
    replace_directory(work, BUILD / "edge")
    if options.json:
        print(msgspec.json.encode(made).decode())
        return
    print("\n".join(edge_folder.sizes(made)))
    print("\n".join(edge_folder.measured(made)))
    for note in made.notes:
        print(note)
    print(
        f"written: {(BUILD / 'edge').relative_to(ROOT)}/ (index.html opens by a double click; README.txt has the rest)"
    )


@contextmanager
def source(number: str | None) -> Iterator[Path]:
    """The verified bundle that is asked for; raises StageError where there is none."""
    if number is None:
        if not (BUILD / "bundle").exists():
            raise StageError(
                "build/bundle is missing",
                "`make register` makes it, or name a registered version: `make edge VERSION=7`",
            )
        bundle.verify(BUILD / "bundle")
        yield BUILD / "bundle"
        return
    settings = load_settings()
    sync.refuse_unknown()
    client = versions.connect(settings)
    with deployment.fetched(client, versions.by_number(client, settings.name, number)) as found:
        yield found


if __name__ == "__main__":
    sys.exit(main())
