"""Say what is configured, what is missing, and what will be skipped because of that.

    make doctor
    python -m scripts.doctor --json

Exit status 1 when something stands in the way of `make ship`.
"""

import argparse
import json
import sys
from dataclasses import asdict

from delivery import checkup
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> int:
    """Print the findings; 1 when one is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    findings = checkup.examine()
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        checkup.show(findings)
    return int(any(finding.state == "fault" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
