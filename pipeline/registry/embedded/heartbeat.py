"""The process that keeps a lease alive while its job works, and the record by which later commands find it.

It inherits the environment (for the login, and because a workflow's runner uses it to find leftover processes). It
exits when the lease is lost, when the record is gone or another's, or after six hours.
"""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

from pipeline import processes, state
from pipeline.artifacts import ROOT, STATE, write_json
from pipeline.errors import RegistryError, SlipwayError, edge
from pipeline.registry.embedded.lease import TIMING, Claimant, Timing
from pipeline.registry.embedded.oci import Lost

RECORD = STATE / "lease.json"  # {"repository", "holder", "who", "process": {pid, created}}
LOG = STATE / "lease.log"


def held() -> state.Lease | None:
    """The record of the lease that this folder holds, or believes to hold; else None."""
    return state.read(RECORD, state.Lease, "its lease expires by itself; delete the file")


def begin(claimant: Claimant) -> None:
    """Start the heartbeat of a lease that was just acquired."""
    record = {"repository": claimant.store.name, "holder": claimant.holder, "who": claimant.who}
    write_json(RECORD, record)
    beat, longest = (str(seconds) for seconds in (claimant.timing.beat, claimant.timing.longest))
    command = [
        sys.executable,
        "-m",
        "pipeline.registry.embedded.heartbeat",
        "--record",
        str(RECORD),
        "--beat",
        beat,
        "--longest",
        longest,
    ]
    process = processes.start(command, LOG, cwd=ROOT)
    write_json(RECORD, record | {"process": processes.identity(process)})


def end() -> bool:
    """Stop the heartbeat and free the lease; False when none was held here. A lease that cannot be freed expires."""
    record = held()
    if record is None:
        return False
    process = processes.find(record.get("process") or {})
    if process:
        processes.stop(process)  # before the lease is freed: a late heartbeat would take it back
    RECORD.unlink(missing_ok=True)
    try:
        Claimant(record["repository"], record["who"], record["holder"]).release()
    except SlipwayError as error:
        print(
            f"the lease on MLflow could not be freed and expires in {TIMING.dead:.0f} s: {error.what}",
            flush=True,
        )
    return True


@edge
def main(argv: list[str] | None = None) -> None:
    """Send heartbeats until the lease or its record is gone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--beat", type=float, required=True)
    parser.add_argument("--longest", type=float, required=True)
    options = parser.parse_args(argv)
    record = state.read(options.record, state.Lease, "it does not name a lease")
    if record is None:
        raise RegistryError(f"{options.record} names no lease that could be renewed")
    timing = Timing(beat=options.beat, longest=options.longest)
    claimant = Claimant(record["repository"], record["who"], record["holder"], timing)
    _beat(claimant, options.record)


def _beat(claimant: Claimant, record: Path) -> None:
    began = last = time.monotonic()
    while _ours(record, claimant.holder):
        if time.monotonic() - began > claimant.timing.longest:
            raise RegistryError(f"the lease was held for {claimant.timing.longest:.0f} s, the maximum")
        time.sleep(min(1, claimant.timing.beat))
        if time.monotonic() - last < claimant.timing.beat:
            continue
        with suppress(Lost):  # retried in a second, while the lease lives
            if not claimant.beat():
                raise RegistryError(f"the lease on {claimant.store.name} was taken by another job")
            last = time.monotonic()


def _ours(record: Path, holder: str) -> bool:
    now = state.read(record, state.Lease, "the lease is no longer renewed")
    return now is not None and now["holder"] == holder


if __name__ == "__main__":
    sys.exit(main())
