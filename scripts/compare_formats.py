"""Compare the formats in which the trained model could be stored: size, time to load, time to answer, difference, and what is safe to open.

    make compare-formats                  # after `make train`
    make compare-formats ARGS=--json
    make compare-formats ARGS=--markdown  # the table, as it stands in docs/formats.md

Fits the model again, as `make train` did, and checks that it answers like build/model. Each format is written to a temporary folder and
opened by fresh processes; no file from elsewhere is opened. Writes build/formats.json and build/formats.png. Nothing that is served
changes; `make evaluate` then has the table in its report.
"""

import argparse
import sys

import msgspec

from pipeline import artifacts
from pipeline.artifacts import read_json, write_json
from pipeline.data.dataset import load_dataset
from pipeline.errors import StageError, edge
from pipeline.evaluation.figures import save_png
from pipeline.evaluation.record import FORMATS, Formats
from pipeline.formats import bundle
from pipeline.formats.comparison import formats_page, measuring
from pipeline.formats.onnx import conversion
from pipeline.settings import TRAINING, load_settings
from pipeline.standard_output import kept_clean


@edge
def main(argv: list[str] | None = None) -> None:
    """Compare, write the files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print build/formats.json instead of a table")
    shown.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(argv)
    for older in (FORMATS, formats_page.PICTURE):
        (artifacts.BUILD / older).unlink(missing_ok=True)  # must not speak for this comparison, should it fail
    with kept_clean():
        found = _compare()
    write_json(artifacts.BUILD / FORMATS, msgspec.to_builtins(found))
    save_png(formats_page.draw(found), artifacts.BUILD / formats_page.PICTURE)
    if options.json:
        print((artifacts.BUILD / FORMATS).read_text(encoding="utf-8"), end="")
    elif options.markdown:
        print(formats_page.markdown(found))
    else:
        formats_page.terminal(found)
        print("build/formats.png has the picture; `make evaluate` puts both into the report")


def _compare() -> Formats:
    settings, run = load_settings(), read_json(artifacts.BUILD / "run.json")
    if run["settings_hash"] != settings.fingerprint(*TRAINING):
        raise StageError("pipeline.toml was changed since the model was trained", "run `make train`")
    conversion.prepare()
    dataset, folder = load_dataset(settings), artifacts.BUILD / "model"
    if run["data_hash"] != dataset.hash or bundle.digest(folder) != run["model_digest"]:
        raise StageError("build/model is not of build/run.json and the present data", "run `make train`")
    return measuring.compare(dataset, run, folder, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
