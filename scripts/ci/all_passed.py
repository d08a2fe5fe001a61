"""Turn the results of other jobs into an exit status, so that one check says whether all passed:

    NEEDS='{"lint": {"result": "success"}}' make all-passed

NEEDS is what a workflow knows as `toJSON(needs)`. A skipped job counts as passed: what it needed is in NEEDS as well.
Needs nothing but Python, so that no environment is made for it.
"""

import json
import os
import sys

PASSED = ("success", "skipped")


def main() -> int:
    """Print each job's result; 1 when one did not pass, 2 when NEEDS says nothing."""
    try:
        results = {name: job["result"] for name, job in json.loads(os.environ.get("NEEDS") or "{}").items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        results = {}
    if not results:
        print(
            "error: NEEDS is not the JSON of jobs and their results\n  -> a workflow sets it to toJSON(needs)",
            file=sys.stderr,
        )
        return 2
    for name, result in results.items():
        print(f"{result:<10}{name}")
    return int(any(result not in PASSED for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
