"""Do what the workflow `monitor` does, where no workflow can read the prediction log: judge production, tell people, retrain if needed.

    make watch                              # once
    make watch ARGS=--every-day             # now, and then every day at 03:41 UTC
    python -m scripts.ci.watch --healthy    # whether --every-day does its work

Each step is a command of its own and shown as it runs. Without findings nobody is told anything and nothing is retrained; if people
cannot be told, retraining is decided all the same. The exit status is 1 when a step failed, and SLIPWAY_WEBHOOK is told which.
"""

import argparse
import subprocess
import sys
import time

from pipeline import artifacts
from pipeline.ci import chat
from pipeline.errors import SlipwayError, edge

AT = (3 * 60 + 41) * 60  # seconds after midnight, UTC: when the day before is over, and as the workflow's schedule
DAY = 86_400
AGAIN = 3600  # seconds until a round that failed is tried again
LONGEST = 3600  # seconds that a step may take, as the workflow's job
ENDS = 20  # seconds for a step to end what it has begun
STATE = artifacts.BUILD / "watch.json"
RUNNING, DONE, FAILED = "running", "done", "failed"


@edge
def main(argv: list[str] | None = None) -> int:
    """One round, or a round each day; exit status 1 when a step failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", choices=("staging", "production"), default="production")
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--every-day", action="store_true", help="go on: a round each day, and again an hour after a failure"
    )
    one.add_argument("--healthy", action="store_true", help="only say whether the rounds of --every-day are done")
    options = parser.parse_args(argv)
    if options.healthy:
        return say_health(time.time())
    failed = report(options.environment, watch(options.environment))
    while options.every_day:
        rest(AGAIN if failed else until(time.time()))
        before, failed = failed, watch(options.environment)
        report(options.environment, failed, before)
    return int(bool(failed))


def watch(environment: str) -> list[str]:
    """Do a round, and return the verbs that failed."""
    note(RUNNING)
    failed = []
    if run("monitor", "scripts.monitor", "--environment", environment):
        failed = ["monitor"]
    else:
        steps = (("alert", "scripts.ci.alert"), ("retrain-if-needed", "scripts.ci.retrain_if_needed"))
        failed = [verb for verb, module in steps if run(verb, module)]
    note(FAILED if failed else DONE)
    return failed


def run(verb: str, module: str, *arguments: str) -> int:
    """Run a step and return its exit status; one that takes too long, or is interrupted, gets time to end."""
    print(f"--- {verb}", flush=True)
    with subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=artifacts.ROOT) as step:
        try:
            return step.wait(LONGEST)
        except subprocess.TimeoutExpired:
            print(f"error: {verb} took longer than {LONGEST} s and is ended", file=sys.stderr, flush=True)
            end(step)
            return 1
        except BaseException:
            end(step)
            raise


def end(step: subprocess.Popen) -> None:
    """End a step as Ctrl-C does, and for good when it does not."""
    step.terminate()
    try:
        step.wait(ENDS)
    except subprocess.TimeoutExpired:
        step.kill()


def report(environment: str, failed: list[str], before: list[str] | None = None) -> list[str]:
    """Say which steps failed, and tell a chat unless it was told so the round before; return them."""
    if failed:
        text = f"watching {environment} failed: {', '.join(failed)}"
        print(f"error: {text}; the lines above say why", file=sys.stderr, flush=True)
        if failed != before:
            chat.tell(f"{text}; the log of this job says why")
    return failed


def rest(seconds: float) -> None:
    """Wait for the next round."""
    print(f"the next round is in {seconds / 3600:.1f} hours", flush=True)
    time.sleep(seconds)


def until(now: float) -> float:
    """Seconds until the next round is due."""
    return (AT - now) % DAY or DAY


def note(state: str) -> None:
    """Write down what goes on, for --healthy."""
    artifacts.write_json(STATE, {"state": state, "time": time.time()})


def say_health(now: float) -> int:
    """0 while a round goes on, or after one that succeeded within the last day; else 1. Says which."""
    try:
        noted = artifacts.read_json(STATE)
        state, age = noted["state"], now - noted["time"]
    except (SlipwayError, KeyError, TypeError):
        state, age = "not begun", 0.0
    longest = {RUNNING: 3 * LONGEST + AGAIN, DONE: DAY + 3 * LONGEST}.get(state, -1)
    print(f"{state}, {age / 3600:.1f} hours ago")
    return int(age > longest)


if __name__ == "__main__":
    sys.exit(main())
