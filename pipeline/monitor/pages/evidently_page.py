"""Evidently's report of two tables. It is run by the interpreter of .venv/evidently, where nothing of ours is installed:

    .venv/evidently/bin/python -I pipeline/monitor/pages/evidently_page.py FOLDER

FOLDER holds reference.parquet, current.parquet and about.json (which columns are numbers, which are categories, and which of them is
the target, if it is there); report.html is written beside them.
"""

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Compare the tables column by column, and the target by itself."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    definition = DataDefinition(numerical_columns=about["numbers"], categorical_columns=about["categories"])
    reference, current = (
        Dataset.from_pandas(pd.read_parquet(folder / f"{name}.parquet"), data_definition=definition)
        for name in ("reference", "current")
    )
    target = about["target"]
    features = [name for name in (*about["numbers"], *about["categories"]) if name != target]
    # Its new interface has no preset for a target; this is what the older one showed of it.
    metrics = [DataDriftPreset(columns=features), *([ValueDrift(column=target)] if target else [])]
    Report(metrics).run(current, reference).save_html(str(folder / "report.html"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
