"""The soak of an experiment: what callers were told is compared with the share in force, with the log and with what was done meanwhile."""

import math
from dataclasses import replace

import pytest

from dev.soak_comparison import Answer, Event, Logged, Seen, Trouble, compare
from pipeline.registry.experiments import ExperimentRecord
from serving.experiment.experiment import position_of
from serving.log.identity import identity

RECORD = ExperimentRecord("greener", "ab", "7", "seven", "8", "eight")
SHARE, LATER = 0.3, 0.6
SHARED = Event(1000.0, 1010.0, "make experiment-share", False, LATER)
KILLED = Event(2000.0, 2001.0, "kill", True, LATER)
END = 3000


def _answer(subject, at, share):
    if subject is None:
        return Answer(at, at + 0.01, None, "7", "", "", "yes")
    variant = "B" if position_of("greener", subject) < share else "A"
    return Answer(at, at + 0.01, subject, {"A": "7", "B": "8"}[variant], "greener", variant, "yes")


def _good():
    """A soak in which nothing is wrong: a larger share, then a kill that cut one request."""
    seen = Seen(SHARE, events=[SHARED, KILLED])
    for number in range(END):
        subject = None if number % 10 == 0 else f"customer-{number % 500}"
        share = SHARE if number < SHARED.ended else LATER
        seen.answers[f"r-{number}"] = _answer(subject, float(number), share)
    seen.troubles.append(Trouble("r-cut", KILLED.began, KILLED.began + 0.1, "cut"))
    return seen


def _log(seen):
    return {
        name: [Logged(one.version, one.experiment, one.variant, "served", one.subject and identity(one.subject), one.said)]
        for name, one in seen.answers.items()
    }  # fmt: skip


def _faults(change):
    seen = _good()
    log = _log(seen)
    change(seen, log)
    return "; ".join(compare(seen, RECORD, log).faults)


def test_nothing_is_wrong_where_nothing_is():
    """Shares are shown between commands, and a kill may cut requests and take answers from the log."""
    seen = _good()
    log = _log(seen)
    del log["r-1999"], log["r-2002"]  # given a moment before the kill, and while it took effect
    found = compare(seen, RECORD, log)
    assert found.faults == []
    assert [window.share for window in found.windows] == [SHARE, LATER, LATER]
    assert all(math.isclose(window.b / window.subjects, window.share, abs_tol=0.08) for window in found.windows)
    assert {command: len(given) for command, given in found.lost.items()} == {"kill": 2}


def test_while_the_share_changes_both_shares_hold():
    """A subject may meet the larger share as soon as the command runs, and the old one until it has ended."""
    assert _faults(lambda seen, log: _swap(seen, log, 1005, LATER)) == ""
    assert "1 answers by the wrong variant" in _faults(lambda seen, log: _swap(seen, log, 995, LATER))
    assert "1 answers by the wrong variant" in _faults(lambda seen, log: _swap(seen, log, 1015, SHARE))


def _swap(seen, log, at, share):
    """Have a subject that moves with the share answered at a time as another share would have it."""
    movers = (f"customer-{number}" for number in range(500) if SHARE < position_of("greener", f"customer-{number}") < LATER)  # fmt: skip
    seen.answers[f"r-{at}"] = _answer(next(movers), float(at), share)
    log[f"r-{at}"] = _log(seen)[f"r-{at}"]


def _told(name, **change):
    def changed(seen, log):
        seen.answers[name] = seen.answers[name]._replace(**change)

    return changed


def _in_log(name, **change):
    return lambda seen, log: log.update({name: [log[name][0]._replace(**change)]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_told("r-1", version="9"), "1 answers by another version than their variant's"),
        (_told("r-1", experiment="other"), "1 answers under another name"),
        (_told("r-10", variant="A", experiment="greener"), "1 answers by the wrong variant"),
        (_in_log("r-1", version="9"), "1 rows in the log that differ from the answer"),
        (_in_log("r-1", said="no"), "1 rows in the log that differ from the answer"),
        (_in_log("r-1", role="shadow"), "1 rows in the log that differ from the answer"),
        (_in_log("r-1", subject=None), "1 rows in the log that differ from the answer"),
        (lambda seen, log: log["r-1"].extend(log["r-1"]), "1 requests that are in the log twice"),
        (lambda seen, log: log.update({"r-x": log["r-1"]}), "1 rows in the log that nobody asked for"),
        (lambda seen, log: log.pop("r-1"), "1 answers that are not in the log, and nothing was killed"),
        (lambda seen, log: log.pop("r-1998"), "1 answers that are not in the log, and nothing was killed"),
        (
            lambda seen, log: seen.troubles.append(Trouble("r-x", 1005.0, 1005.1, "503")),
            "1 requests without an answer, and nothing was killed",
        ),
        (lambda seen, log: seen.events.__setitem__(1, KILLED._replace(kills=False)), "1 requests without an answer"),
    ],
)
def test_what_must_not_be_is_named(change, words):
    """Another version, variant or row than was told, a row too many or too few, and a request without an answer fail the soak."""
    assert words in _faults(change)


def test_a_share_that_is_not_kept_is_named():
    """The record says another share than the service keeps: shares, and answers, are wrong."""
    seen = _good()
    told = compare(replace(seen, share=0.5), RECORD, _log(seen)).faults
    assert any("shares outside of their interval" in one for one in told)


def test_a_subject_that_met_both_is_named():
    """It is seen in the answers alone, whatever the hash says."""
    seen = _good()
    other = {"A": ("B", "8"), "B": ("A", "7")}[seen.answers["r-501"].variant]
    seen.answers["r-501"] = seen.answers["r-501"]._replace(variant=other[0], version=other[1])
    assert "1 subjects that met both variants with one share" in "; ".join(compare(seen, RECORD, _log(seen)).faults)
