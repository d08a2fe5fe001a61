"""Measure the gate: how often it is wrong, and what it can see, against the size of the hold-out.

    make simulate-gate                                       # tables, and build/gate_simulation.json
    python -m dev.simulate_gate --trials 200             # a quick look
    python -m dev.simulate_gate --only grouped --sizes 10 20 50 200  # groups alone; weighted, repeated, slices: those
    python -m dev.simulate_gate --document               # put tables and figure into docs/decisions/0001-gate.md

Each trial draws a hold-out from a population of a million rows, on which the true difference of the two models is known, and
asks the real `compare` and `decide`. Nothing is fitted: a model is the true signal plus noise of its own.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from dev import simulation
from pipeline.artifacts import BUILD, write_json, write_text
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure, and show or write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1500, help="hold-outs per cell (default 1500)")
    parser.add_argument("--sizes", type=int, nargs="+", default=simulation.SIZES, help="rows of the hold-out")
    parser.add_argument("--only", default="", help="only situations with this word, such as grouped or weighted")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--json", type=Path, default=BUILD / "gate_simulation.json", help="where the figures go")
    parser.add_argument("--document", action="store_true", help="put tables and figure into docs/decisions")
    options = parser.parse_args(argv)

    cells = simulation.run(options.trials, tuple(options.sizes), options.processes, options.only)
    parts = simulation.tables(cells)
    for name, part in parts.items():
        print(f"\n{name}\n{part}")
    print(
        f"\n{options.trials} trials a cell: one standard error at 5 % is {100 * simulation.standard_error(options.trials):.1f} points"
    )
    write_json(options.json, [asdict(cell) for cell in cells])
    if options.document:
        write_text(simulation.DOCUMENT, simulation.document(simulation.DOCUMENT.read_text(encoding="utf-8"), parts))
        if not options.only:
            simulation.draw(cells, simulation.FIGURE)


if __name__ == "__main__":
    sys.exit(main())
