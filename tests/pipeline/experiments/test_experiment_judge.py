"""An experiment's record and sums become a verdict, in the order in which people must read it."""

from datetime import UTC, datetime

import msgspec
import pytest

from pipeline.evaluation.wording import places, signed
from pipeline.experiments.judge import judge, plan_of
from pipeline.experiments.judgement import Judgement
from pipeline.experiments.pairs import compared
from pipeline.registry.experiments import ExperimentRecord, Phase
from pipeline.settings import load_settings
from serving.experiment.count.records import Arm, Day, Difference, LeftOut, Pair, Plan, Shadow, Speed, Stop, Sums

SINCE = 1_700_000_000.0


@pytest.fixture(scope="module")
def settings():
    """Those of the repository."""
    return load_settings()


def record(share=0.5, mode="ab", phases=None, state="running"):
    """A record whose last phase has this share."""
    return ExperimentRecord(
        name="greener", mode=mode, champion="7", champion_digest="a", challenger="8", challenger_digest="b", state=state,
        phases=phases or (Phase(SINCE, share),), started=SINCE,
    )  # fmt: skip


def arm(n, mean, subjects=None):
    """Subjects with yes or no."""
    return Arm(
        subjects=subjects or n, measured=n, requests=n, rows=n, outcomes=n, mean=mean, squares=n * mean * (1 - mean)
    )


def sums(*days, outcome="correct", mode="ab", **more):
    """Sums of these days, a pair of variants each."""
    plan = Plan(model="m", experiment="greener", mode=mode, champion="7", challenger="8", since=SINCE, outcome=outcome)
    made = [Day(day=f"2026-01-{n:02}", number=n, a=a, b=b) for n, (a, b) in enumerate(days, 1)]
    return Sums(**{"plan": plan, "now": SINCE + 1e6, "days": made} | more)


BETTER = ((arm(500, 0.5), arm(500, 0.55)), (arm(5000, 0.5), arm(5000, 0.6)))


def test_a_judgement_can_be_read_again(settings):
    """It is JSON."""
    found = judge(record(), sums(*BETTER), settings)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Judgement) == found


def test_b_is_better_from_the_first_day_whose_interval_leaves_out_zero(settings):
    """And stays so, with the day in the words; a difference is B - A."""
    close = arm(6000, 0.5), arm(6000, 0.505)
    found = judge(record(), sums(*BETTER, close), settings)
    assert (found.verdict, found.decided_day) == ("B better", "2026-01-02")
    assert found.looks[0].low < 0 < found.looks[0].high and found.looks[1].low > 0
    assert found.difference == pytest.approx(0.005) and found.relative == pytest.approx(0.01)
    assert any("The decision stands" in note for note in found.notes)
    assert " B − A was between +" in found.words and "on 2026-01-02" in found.words


def test_the_words_of_a_decision_have_the_band_of_today(settings):
    """With the day of the decision."""
    found = judge(record(), sums(*BETTER, (arm(9000, 0.5), arm(9000, 0.6))), settings)
    assert (
        found.low > found.looks[1].low
        and signed(found.low, places(found.low, found.high)) in found.words
        and "Decided on 2026-01-02" in found.words
    )


def test_a_decision_of_today_may_still_change_today(settings):
    """The day's sums are not complete; from midnight on it stands."""
    now = datetime(2026, 1, 2, 10, tzinfo=UTC).timestamp()
    assert "Decided today, so far" in judge(record(), sums(*BETTER, now=now), settings).words
    assert "more days cannot undo that" in judge(record(), sums(*BETTER, now=now + 86_400), settings).words


def test_outcomes_that_are_all_alike_are_not_too_few(settings):
    """Nothing says how sure the difference is, of however many subjects."""
    same = judge(record(), sums((arm(5000, 1.0), arm(5000, 1.0))), settings)
    assert same.verdict == "running" and "all subjects of a variant are alike" in same.words
    day = Day(day="2026-01-01", number=1, a=arm(500, 0.9), b=arm(500, 0.9), difference=Difference(measured=500))
    shadow = judge(record(mode="shadow"), sums(mode="shadow", days=[day], shadow=Shadow(rows=500, same=500)), settings)
    assert shadow.verdict == "running" and "the same for each subject" in shadow.words


def test_less_error_is_better(settings):
    """Of two regressions, B's larger error makes A better."""
    assert judge(record(), sums(*BETTER, outcome="error"), settings).verdict == "A better"


def test_no_difference_so_far_is_not_too_few_subjects(settings):
    """With a hundred subjects of both there is an interval; before, and without any row, it is too early."""
    assert judge(record(), sums((arm(100, 0.5), arm(100, 0.5))), settings).verdict == "no difference so far"
    assert judge(record(), sums((arm(99, 0.5), arm(101, 0.5))), settings).verdict == "running"
    empty = judge(record(), sums(), settings)
    assert (empty.verdict, empty.a.mean, empty.looks) == ("running", None, [])


def test_a_sample_ratio_mismatch_is_said_before_any_result(settings):
    """Although the sequence has decided."""
    found = judge(record(share=0.1), sums(*BETTER), settings)
    assert found.verdict == "sample ratio mismatch" and found.ratio.mismatch and "10.00%" in found.words


def test_what_stopped_itself_is_said_first(settings):
    """With the reason."""
    found = judge(record(share=0.1), sums(*BETTER, stop=Stop(SINCE + 5, "too slow")), settings)
    assert (found.verdict, found.stop_reason, found.stopped) == ("stopped itself", "too slow", SINCE + 5)


def test_the_sequence_is_tuned_by_counts_alone_and_for_good(settings):
    """A look of the past is the same, whatever comes later."""
    early = judge(record(), sums(BETTER[0]), settings).looks
    later = judge(record(), sums(*BETTER), settings).looks
    assert early == later[:1]


def test_guardrails_are_failures_times_and_missing_outcomes(settings):
    """Each is broken where B is beyond what it may be."""
    days = ((arm(900, 0.5, subjects=1000), arm(500, 0.5, subjects=1000)),)
    speeds = {"A": Speed(median=0.01, p95=0.02), "B": Speed(median=0.02, p95=0.06)}
    found = judge(record(), sums(*days, failures={"7": 0, "8": 50}, speeds=speeds), settings).guardrails
    assert [one.broken for one in found] == [True, True, True]
    assert found[0].b == pytest.approx(50 / 550) and found[1].limit == pytest.approx(0.045)
    calm = judge(record(), sums((arm(900, 0.5), arm(900, 0.5)), failures={"7": 0, "8": 1}), settings).guardrails
    assert not any(one.broken for one in calm)


def test_what_was_left_out_has_a_number_and_a_reason(settings):
    """Only what there is."""
    found = judge(record(), sums((arm(100, 0.5, 130), arm(100, 0.5)), left_out=LeftOut(crossed=2, late=3)), settings)
    assert [(one.number, one.of) for one in found.left_out] == [(2, "subjects"), (30, "subjects"), (3, "outcomes")]


def test_the_last_phase_is_counted(settings):
    """From its start, with its share; the page says so."""
    phases = Phase(SINCE, 0.1), Phase(SINCE + 99, 0.5)
    assert plan_of(record(phases=phases), settings).since == SINCE + 99
    found = judge(record(phases=phases), sums(*BETTER), settings)
    assert found.share == 0.5 and any("last change of the share" in note for note in found.notes)


def test_in_the_shadow_differences_of_subjects_are_judged(settings):
    """No split, so no sample ratio; how alike the answers are is beside it."""
    n, mean = 2000, 0.02
    day = Day(
        day="2026-01-01",
        number=1,
        a=arm(n, 0.90),
        b=arm(n, 0.92),
        difference=Difference(measured=n, mean=mean, squares=n * (0.03 - mean**2)),
    )
    found = judge(record(mode="shadow"), sums(mode="shadow", days=[day], shadow=Shadow(rows=n, same=1900)), settings)
    assert (found.verdict, found.ratio, found.welch, found.agreement.same) == ("B better", None, None, 0.95)
    assert found.looks[0].low == pytest.approx(2 * mean - found.looks[0].high) and found.looks[0].p_value < 1e-6


def test_pairs_of_a_shadow_are_compared_by_the_gate(settings):
    """Answers and outcomes as they are in the log; an outcome of no class is left out."""

    def answer(p):
        return msgspec.Raw(msgspec.json.encode({"label": "x", "probabilities": {"benign": 1 - p, "malignant": p}}))

    truth = ["benign", "malignant"] * 100
    pairs = [
        Pair(
            subject=n // 2,
            outcome=msgspec.Raw(msgspec.json.encode(true)),
            a=answer(0.5 + n / 1e5),
            b=answer(0.9 if true == "malignant" else 0.1),
        )
        for n, true in enumerate([*truth, "neither"])
    ]
    found = compared(settings, pairs)
    assert (found.rows, found.outcomes, found.subjects, found.better) == (200, 200, 100, "B")
    assert compared(settings, []) is None and compared(settings, pairs[-1:]) is None
