"""The drill's story: production serves, the world changes, the monitor notices, a retraining follows, the alarm closes."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from delivery.drill import workspace
from delivery.drill.traffic import Change, Traffic
from pipeline.errors import SlipwayError

DAY = 86_400
ROWS_A_DAY = 200
NORMAL = 14  # days before the world changes
LOOKS = 12  # times that the monitor may look until it must have noticed
ENOUGH = 5  # days until there are rows of the new world to learn from
AFTER = 10  # days after the retraining until the monitor looks again


@dataclass
class Story:
    """A drill in a copy of the project; `said` are the lines of its summary."""

    folder: Path
    seconds_per_day: float
    change: Change
    rows_a_day: float = ROWS_A_DAY
    said: list[str] = field(default_factory=list)
    origin: float = field(default_factory=lambda: round(time.time(), 3))

    @property
    def clock(self) -> str:
        """SLIPWAY_LOG_CLOCK: from the drill's first second on, a day of the log takes `seconds_per_day`."""
        return f"{self.origin}:{DAY / self.seconds_per_day:g}"

    def now(self) -> float:
        """The log's time."""
        return self.origin + (time.time() - self.origin) * DAY / self.seconds_per_day

    def day(self) -> int:
        """The day of the drill, from 0."""
        return int((self.now() - self.origin) // DAY)

    def date(self, day: int) -> str:
        """The date on which a day of the drill begins (UTC), as the monitor writes it."""
        return datetime.fromtimestamp(self.origin + day * DAY, UTC).date().isoformat()

    def sleep(self, days: float) -> None:
        """Wait for so many days of the log."""
        time.sleep(days * self.seconds_per_day)

    def tell(self, words: str) -> None:
        """Print what happens, with the day, and keep it for the summary."""
        self.said.append(f"day {self.day():>3}  {words}")
        print(self.said[-1], flush=True)

    def expect(self, true: bool, else_: str) -> None:
        """Raise SlipwayError unless it is as it should be."""
        if not true:
            raise self.failure(else_)

    def failure(self, what: str) -> SlipwayError:
        """The error that ends the drill, and where to look."""
        return SlipwayError(what, workspace.look_into(self.folder / "build" / "monitor.html"))

    def make(self, *words: str, **more: str) -> str:
        """Run a verb in the copy."""
        return workspace.run(self.folder, ["make", "--no-print-directory", *words], self.clock, shown=False, **more)


def play(story: Story, traffic_of: Callable[[Story, str], Traffic]) -> None:
    """Play all acts; raises SlipwayError when one does not end as it should. The callers are stopped, and the services ended."""
    try:
        story.make("ship")
        story.tell("version 1 serves")
        traffic = traffic_of(story, production(story)["url"])
        traffic.start()
        try:
            _acts(story, traffic)
        finally:
            traffic.stop()
    finally:
        workspace.run(story.folder, ["make", "--silent", "stop"], story.clock, shown=False)


def _acts(story: Story, traffic: Traffic) -> None:
    story.tell(f"callers ask {story.rows_a_day:g} rows a day; nothing is wrong with them")
    story.sleep(NORMAL + 1)
    found = monitor(story)
    story.expect(found["verdict"] == "ok", f"the monitor cries wolf: {_words(found)}")
    story.tell(f"the monitor has looked at {len(found['days'])} days: {found['verdict']}")

    traffic.change = story.change
    began = story.day()
    story.tell("from now on the world is different")
    found = _noticed(story)
    alarm = _open(found, "performance")[0]
    story.tell(f"ALARM {_late(alarm, story, began)}: {alarm['words']}")
    issue = story.make("alert")
    (story.folder / "build" / "issue.txt").write_text(issue, encoding="utf-8")
    story.tell(f"the issue would say: {_first(issue.partition('not both set')[2] or issue)}")

    since = alarm["since"]
    if _open(found, "data_broken"):
        story.tell(f"the monitor decides: {_first(story.make('retrain-if-needed'))}")
        traffic.change = Change(relation=True)
        since = story.date(story.day() + 1)
        story.tell("the data are fixed at the source; the outcomes stay as they are")
        _fixed(story)
        story.tell("the data are no longer broken")

    story.sleep(ENOUGH)
    story.make("backfill")
    workspace.learn_from(story.folder, since)
    story.tell(f"load() adds the rows of production since {since}, with their outcomes")
    decision = story.make("retrain-if-needed")
    story.tell(f"the monitor decides: {_first(decision)}")
    story.expect("a retraining is needed" in decision, f"no retraining is started: {decision}")
    reason = decision.split("a retraining is needed: ", 1)[1].splitlines()[0]
    workspace.commit(story.folder, "The rows of production with their outcomes")
    story.make("ship", SLIPWAY_REASON=f"retrain: {reason}")
    served = production(story)["version"]
    story.expect(served == "2", f"the retrained model was not accepted: production serves version {served}")
    story.tell("version 2, trained on what has come in since, serves")

    story.sleep(AFTER)
    found = monitor(story)
    story.expect(not _open(found, "performance"), f"the alarm is still open: {_words(found)}")
    story.make("alert")
    story.tell(f"the alarm is closed: {found['verdict']}")
    decision = story.make("retrain-if-needed")
    story.expect("a retraining is needed" not in decision, f"a second retraining would start: {decision}")
    story.tell(f"no second retraining: {_first(decision)}")


def production(story: Story) -> dict[str, Any]:
    """What production serves, as `make status` knows it."""
    python = [".venv/bin/python", "-m", "scripts.status", "--json"]
    found = json.loads(workspace.run(story.folder, python, story.clock, shown=False))
    return next(one for one in found["environments"] if one["environment"] == "production")


def monitor(story: Story) -> dict[str, Any]:
    """The findings of now."""
    story.make("monitor")
    return json.loads((story.folder / "build" / "monitor.json").read_text(encoding="utf-8"))


def _noticed(story: Story) -> dict[str, Any]:
    """The findings once performance has an alarm."""
    for _ in range(LOOKS):
        story.sleep(2)
        found = monitor(story)
        if _open(found, "performance"):
            return found
    raise story.failure(f"the monitor has not noticed: {_words(found)}")


def _fixed(story: Story) -> None:
    """Wait until the data are no longer broken; raises SlipwayError."""
    for _ in range(LOOKS):
        story.sleep(2)
        found = monitor(story)
        if not _open(found, "data_broken"):
            return
    raise story.failure(f"the data are fixed, but the monitor still finds them broken: {_words(found)}")


def _open(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The open incidents of a kind."""
    return [one for one in found["incidents"] if one["open"] and one["kind"] == kind]


def _late(alarm: dict[str, Any], story: Story, began: int) -> str:
    days = (date.fromisoformat(alarm["alarm_day"]) - date.fromisoformat(story.date(began))).days
    return f"{days} day{'s' if days > 1 else ''} after the change" if days > 0 else "on the day of the change"


def _words(found: dict[str, Any]) -> str:
    return "; ".join(one["words"] for one in found["incidents"] if one["open"]) or found["verdict"]


def _first(text: str) -> str:
    """The first line of a verb's output that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
