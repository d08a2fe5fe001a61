"""Replay the golden rows of a release against the service that should be serving it:

python -m scripts.smoke_test --environment staging
python -m scripts.smoke_test --url http://127.0.0.1:8001 --bundle build/bundle
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from delivery import keys, proof, smoke, targets
from pipeline.artifacts import to_json
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> int:
    """Run the smoke test; raises DeployError naming the first thing that differs."""
    parser = argparse.ArgumentParser(description="Replay the golden rows of a release against its service.")
    parser.add_argument("--environment", type=targets.environment, help="test what is deployed there")
    parser.add_argument("--url", help="or the address of a service")
    parser.add_argument("--bundle", type=Path, help="and the bundle that it should serve")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(argv)
    if args.environment:
        result = proof.smoke_test(args.environment)
    elif args.url and args.bundle:
        version = smoke.read(args.bundle, "release.json")["version"]
        result = smoke.replay(args.url, args.bundle, version, keys.from_environment())
    else:
        parser.error("give --environment, or --url with --bundle")
    if args.json:
        print(to_json({"success": result.success, **asdict(result)}), end="")
    else:
        smoke.show(result)
    smoke.require_success(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
