"""The card of a version: it says all that a decision rests on, fits into MLflow, and nothing in it but its own text is markup."""

import re

import pytest

from pipeline.evaluation import github_markdown, model_card, record
from pipeline.settings import load_settings
from tests.pipeline.evaluation.evaluations import DATA, RUN, evaluation

WHEN = "2026-01-31 13:45"
RECORD = {"experiment_id": "2", "run_id": "c" * 32}
HOSTILE = (
    "a | b ` c\n\n| d |\n# e <img src=http://evil.example/x.png> [f](javascript:g) ![h](http://i.example) __j__ &lt; @k"
)


def settings_of(**words):
    """The shipped settings, with other words on the model."""
    shipped = load_settings("tests/example/pipeline.toml")
    return shipped.model_copy(update={"model": shipped.model.model_copy(update=words)})


def card(task: str = "binary", run: dict | None = None, words: dict | None = None, **changes) -> str:
    """The card of a real evaluation, with keys changed."""
    return model_card.markdown(
        record.of_plain(evaluation(task, **changes)), RUN | (run or {}), DATA, settings_of(**(words or {}))
    )


def section(text: str, heading: str) -> str:
    """What stands under a heading."""
    return text.split(f"### {heading}\n")[1].split("\n###")[0]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_card_says_all_that_a_decision_rests_on(task):
    """Verdict and reasons, the team's words, data, metrics beside production's, slices, limits, format and origin."""
    said = card(task)
    assert said.startswith("Accepted: ") and "compared with version 3 in production" in said.splitlines()[0]
    assert settings_of().model.purpose in section(said, "Purpose").replace("&#8288;", "")
    assert "medical device" in section(said, "Not for")
    assert "341 to train on, 228 held out" in section(said, "Data") and "d" * 64 in section(said, "Data")
    assert "`diagnosis`" in section(said, "Data") and "2 inputs" in section(said, "Data")
    assert "latency" in section(said, "Limits") and "Served as onnx" in section(said, "Limits")
    assert "some_column" in section(said, "Slices").replace("&#95;", "_")
    origin = section(said, "Where it comes from")
    assert all(
        each in origin
        for each in ("1" * 40, "e" * 64, "octocat", "2026-11-02", "every Monday", "#/experiments/1/runs/aaaa")
    )
    assert said.endswith("### Approvals\n\nNot in production yet.")


def test_the_card_says_that_weights_are_in_int8():
    """Where the second candidate goes on it is what is served; where it does not, the card is silent about it."""
    for taken in (True, False):
        said = card("binary", int8={"how": "static", "taken": taken, "reason": "smaller"})
        assert ("Served as onnx, its weights in int8 (static)" in section(said, "Limits")) is taken


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_intervals_hold_the_value_beside_them(task):
    """As they are printed, with their rounding, the bounds of a metric lie around its value."""
    rows = re.findall(r"^\| (.+?) \|  \| (\S+) \|  \| (\S+) to (\S+) \|", section(card(task), "Metrics"), re.M)
    assert rows and len(rows) + section(card(task), "Metrics").count("| – |") >= 4
    for name, *numbers in rows:
        value, low, high = (float(each.replace(",", "").replace("−", "-")) for each in numbers)
        assert low <= value <= high, name


def test_the_first_model_stands_alone():
    """Without a production model there is no column for one, and no slices, which are comparisons."""
    said = card(production=None)
    assert "the first model" in said and "### Slices" not in said
    assert "production" not in section(said, "Metrics")


def harmless(said: str) -> None:
    """Nothing outside of code spans is an element, a link, a picture, a heading or a mention that the card did not make."""
    bare = re.sub(r"`[^`|\n]*`", "", said).replace("](#/experiments/", "")
    assert "<img" not in bare and "![" not in bare and "](" not in bare and "__j__" not in bare and "@k" not in bare
    assert not [line for line in said.splitlines() if line.startswith("#") and not line.startswith("### ")]


def test_words_and_reasons_are_text_and_never_markup():
    """What a team says of its model, and what a reason quotes, opens no element, link, heading or mention."""
    said = card(words={"purpose": HOSTILE, "not_for": HOSTILE}, reasons=[HOSTILE] * 3, run={"run_id": "x](y"})
    harmless(said)
    assert "evil.example" in section(said, "Purpose"), "it is still there to read"


def test_names_in_tables_cannot_end_their_cell():
    """Columns, slices, a salt and who trained it stay one cell each, whatever they hold."""
    rows = evaluation("binary")["slices"][:2]
    said = card(
        run={
            "trained_by": HOSTILE,
            "reason": "a | b `c` <img> @k",
            "split": {"holdout": 0.25, "salt": "x", "id": "a | b `c`"},
        },
        slices=[rows[0] | {"slice": HOSTILE}, rows[1] | {"slice": "|"}],
    )
    harmless(said)
    for heading in ("Metrics", "Data", "Limits", "Slices", "Where it comes from"):
        table = [line for line in section(said, heading).splitlines() if line.startswith("|")]
        assert len(table) > 2 and len({line.count("|") for line in table}) == 1, heading


def test_the_card_fits_into_mlflow_with_room_for_approvals():
    """However much there is to say, it stays below the limit of MLflow's tables, and names what is left out."""
    rows = evaluation("binary")["slices"]
    said = card(
        words={"purpose": "*" * 600, "not_for": "<" * 600},
        reasons=["|" * 2000] * 5,
        slices=[row | {"slice": "[" * 200} for row in rows * 20],
    )
    assert len(said) <= model_card.LONGEST - model_card.ROOM
    assert "_Left out" in said and said.endswith(model_card.NOBODY)
    assert len(card()) <= model_card.LONGEST - model_card.ROOM and "Left out" not in card()


def test_words_left_out_are_said_to_be_missing():
    """A team that wrote no purpose is told where it would stand."""
    said = card(words={"purpose": "", "not_for": ""})
    assert "Not said" in section(said, "Purpose") and "Not said" in section(said, "Not for")


def test_the_words_change_neither_training_nor_verdict():
    """Other words on the card leave the fingerprint of what is trained and judged as it is."""
    tables = ("name", "data", "split", "train", "gate")
    assert settings_of(purpose="other").fingerprint(*tables) == settings_of().fingerprint(*tables)


# --- approvals ---


def test_an_approval_is_a_line_of_its_own_once():
    """Who, when, how and by which deployment; the same deployment is not written twice, another is written below."""
    once = model_card.approved(card(), WHEN, "octocat", "make promote", RECORD)
    assert once.endswith(
        "### Approvals\n\n- 2026-01-31 13:45: put into production by `octocat` (make promote), "
        f"deployment record [`{'c' * 32}`](#/experiments/2/runs/{'c' * 32}?workflowType=machine_learning)"
    )
    assert model_card.approved(once, "2026-02-01 08:00", "octocat", "make promote", RECORD) == once
    twice = model_card.approved(once, "2026-02-01 08:00", "hubot", "rollback", RECORD | {"run_id": "d" * 32})
    assert twice.startswith(once) and twice.count("put into production") == 2 and model_card.NOBODY not in twice


def test_what_people_wrote_stays():
    """Around the card, below an approval, or instead of everything: an approval is added, and nothing is lost."""
    noted = f"Reviewed by Ann.\n\n{card()}\n\nBen: fine by me."
    said = model_card.approved(noted, WHEN, "ben", "MLflow alias", RECORD)
    assert said.startswith("Reviewed by Ann.\n\n") and said.endswith("\n\nBen: fine by me.")
    again = model_card.approved(said, WHEN, "ben", "rollback", RECORD | {"run_id": "d" * 32})
    assert again.count("- 2026") == 2 and again.endswith("\n\nBen: fine by me.")
    assert model_card.approved("Our own words.", WHEN, "x", "y", RECORD).startswith(
        "Our own words.\n\n### Approvals\n\n- "
    )
    assert model_card.approved("", WHEN, "x", "y", None).startswith("### Approvals\n\n- ")


def test_an_experiment_is_a_line_before_the_approvals():
    """Each experiment once, the newest first, whatever people wrote around it; its words are text."""
    days = "2026-01-02 to 2026-01-31"
    once = model_card.tried(card(), days, "experiment greener", "B better", RECORD)
    assert once.index("### Experiments\n\n- 2026-01-02") < once.index(model_card.APPROVALS)
    assert model_card.tried(once, days, "experiment greener", "B better", RECORD) == once
    twice = model_card.tried(once, days, "experiment bluer", "@all\n### Approvals", RECORD | {"run_id": "d" * 32})
    assert twice.index("bluer") < twice.index("greener") and twice.count("\n### Approvals") == 1
    assert model_card.tried("Our words.", days, "x", "y", RECORD).startswith("Our words.\n\n### Experiments\n\n- ")
    full = "x" * model_card.LONGEST
    assert model_card.tried(full, days, "x", "y", RECORD) == full


def test_approvals_never_outgrow_mlflow():
    """A version that comes back a hundred times loses its oldest lines, never people's words, and never grows too long."""
    text = f"Ann's words.\n\n{card()}"
    for number in range(100):
        text = model_card.approved(
            text, WHEN, f"user{number}", "rollback", {"experiment_id": "2", "run_id": f"{number:032}"}
        )
        assert len(text) <= model_card.LONGEST
    assert "user99" in text and "user1`" not in text and text.count(model_card.EARLIER) == 1
    assert text.startswith("Ann's words.")
    full = "z" * model_card.LONGEST
    assert model_card.approved(full, WHEN, "x", "y", RECORD) == full


def test_a_name_cannot_forge_an_approval():
    """A user name with line breaks and markup stays within its line."""
    said = model_card.approved(card(), WHEN, "x\n- 2026-01-31 13:45: put into production by boss", "y", RECORD)
    assert len(model_card.OURS.findall(said)) == 1


# --- the model ---


def test_the_registered_model_says_what_its_alias_does():
    """Moving the alias deploys, and the history has a place."""
    said = model_card.of_model(settings_of(), "7")
    assert (
        "alias `production`" in said
        and "[breast-cancer-deployments](#/experiments/7/runs?workflowType=machine_learning)" in said
        and github_markdown.prose("public") in said
    )
