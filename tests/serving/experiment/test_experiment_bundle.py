"""A bundle with an experiment is refused where both models cannot answer the same callers, and says why."""

import shutil

import pytest

from serving.app import create_app
from serving.config import ConfigError, read_config
from serving.experiment.experiment import CHALLENGER, FILE, open_experiment
from serving.model.bundle import EXPERIMENT, BundleError, open_bundle
from tests.serving.bundles import change, make_bundle, make_wide_bundle, read, seal, write
from tests.serving.experiment.carried import make_experiment

pytestmark = pytest.mark.quick


@pytest.fixture
def folder(tmp_path):
    """A bundle with an experiment, which the test may damage."""
    return make_experiment(tmp_path / "bundle", "ab", share=0.5)


def opened(folder):
    """Its experiment."""
    return open_experiment(folder, open_bundle(folder))


def test_bundle_with_an_experiment_is_opened(folder):
    """The bundle is the model's in production, as if there were no experiment; without the folder there is none."""
    carried = opened(folder)
    assert (carried.experiment.name, carried.experiment.share, carried.challenger.release.version) == (
        "new-trees",
        0.5,
        "4",
    )
    assert carried.experiment.guardrails.min_requests == 100
    shutil.rmtree(folder / EXPERIMENT)
    assert opened(folder) is None


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"share": 0}, "`float` > 0"),
        ({"share": 1.5}, "`float` <= 1"),
        ({"share": "half"}, r"\$\.share"),
        ({"mode": "canary"}, "Invalid enum value 'canary'"),
        ({"name": "New trees"}, r"\$\.name"),
        ({"name": ""}, r"\$\.name"),
        ({"name": "new-trees\n"}, r"\$\.name"),
        ({"salt": "x"}, "unknown field `salt`"),
        ({"guardrails": {"max_failures": 2}}, r"\$\.guardrails\.max_failures"),
        ({"guardrails": {"max_latency": 2}}, "unknown field `max_latency`"),
        ({"challenger": "5"}, "names version 5 with digest 4b227777d4dd, in challenger is version 4 with digest 4b227777d4dd"),
        ({"challenger_digest": "0" * 64}, "names version 4 with digest 000000000000, in challenger is version 4"),
    ],
)  # fmt: skip
def test_wrong_experiment_is_refused_in_words(folder, about, words):
    """The message names the file and what is wrong with it."""
    write(folder / EXPERIMENT, FILE, {**read(folder / EXPERIMENT, FILE), **about})
    with pytest.raises(BundleError, match=words) as caught:
        opened(folder)
    assert str(folder / EXPERIMENT) in str(caught.value)


def test_half_written_experiment_is_refused(folder):
    """Where a copy was cut short, the message says what is missing."""
    shutil.rmtree(folder / EXPERIMENT / CHALLENGER)
    with pytest.raises(BundleError, match="challenger is not a bundle folder: it does not exist"):
        opened(folder)
    (folder / EXPERIMENT / FILE).write_text('{"name": "new-')
    with pytest.raises(BundleError, match=r"experiment\.json cannot be used: Input data was truncated"):
        opened(folder)
    (folder / EXPERIMENT / FILE).unlink()
    with pytest.raises(BundleError, match=r"experiment\.json cannot be read: No such file"):
        opened(folder)


def test_link_that_leads_nowhere_is_refused(folder):
    """An experiment whose place is not there at the moment does not end in silence."""
    shutil.rmtree(folder / EXPERIMENT)
    (folder / EXPERIMENT).symlink_to(folder / "away")
    with pytest.raises(BundleError, match=r"experiment\.json cannot be read: No such file"):
        opened(folder)


def test_altered_challenger_is_refused(folder):
    """Its files are checked as those of any bundle."""
    (folder / EXPERIMENT / CHALLENGER / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"challenger: model\.onnx was altered"):
        opened(folder)


def _replace(folder, make):
    """Another challenger, of version 4 and with the digest that the experiment names."""
    challenger = folder / EXPERIMENT / CHALLENGER
    release = read(challenger, "release.json")
    shutil.rmtree(challenger)
    make(challenger)
    name = read(challenger, "contract.json")["name"]
    change(challenger, "release.json", **{**release, "name": name})


def test_challenger_with_other_inputs_is_refused(folder):
    """Other names, another order, other limits: some callers would be refused by one of the models only."""
    challenger = folder / EXPERIMENT / CHALLENGER
    inputs = read(challenger, "contract.json")["inputs"]
    change(challenger, "background.json", rows=[])
    change(challenger, "contract.json", inputs=[{**inputs[0], "maximum": 99.5}, *inputs[1:]])
    with pytest.raises(
        BundleError, match=r"its input 'mass' takes a number from 0 to 99\.5, not a number from 0 to 100"
    ):
        opened(folder)
    change(challenger, "contract.json", inputs=[{**inputs[0], "nullable": True}, *inputs[1:]])
    with pytest.raises(BundleError, match="its input 'mass' takes a number from 0 to 100 or null, not"):
        opened(folder)
    change(challenger, "contract.json", inputs=[inputs[1], inputs[0], *inputs[2:]])
    with pytest.raises(BundleError, match="its inputs are in another order"):
        opened(folder)
    change(challenger, "contract.json", inputs=[{**inputs[0], "name": "weight"}, *inputs[1:]])
    with pytest.raises(BundleError, match="version 4 cannot stand in for 3: its inputs differ in 'mass', 'weight'"):
        opened(folder)


def test_what_only_documents_an_input_may_differ(folder):
    """Another example, and what training saw: both models take the same rows all the same."""
    challenger = folder / EXPERIMENT / CHALLENGER
    inputs = read(challenger, "contract.json")["inputs"]
    change(challenger, "contract.json", inputs=[{**inputs[0], "example": 1.0, "observed": None}, *inputs[1:]])
    assert opened(folder)


def test_one_of_many_values_that_differs_is_refused(tmp_path):
    """Also where it is beyond those that a message lists."""
    folder = make_experiment(tmp_path / "bundle", "ab", "columns")
    for place, values in ((folder, range(40)), (folder / EXPERIMENT / CHALLENGER, [*range(39), 77])):
        inputs = read(place, "contract.json")["inputs"]
        inputs[1] |= {"values": [f"colour {number:02}" for number in values], "example": "colour 00"}
        change(place, "contract.json", inputs=inputs)
        change(place, "background.json", rows=[])
    with pytest.raises(BundleError, match="its input 'colour' takes one of"):
        opened(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: make_wide_bundle(folder, ["mass"], ["no", "perhaps"], "cars"), "its classes are no, perhaps, not no, yes"),
        (lambda folder: make_bundle("regression", folder), r"it is houses \(regression\), not cars \(binary\)"),
    ],
)  # fmt: skip
def test_challenger_with_other_answers_is_refused(folder, make, words):
    """Callers could not tell what such an answer means."""
    _replace(folder, make)
    with pytest.raises(BundleError, match=words):
        opened(folder)


def test_models_with_code_of_their_own_must_share_it(tmp_path):
    """One process has one module of a name."""
    folder = make_bundle("skops", tmp_path / "bundle")
    make_experiment(tmp_path / "other", "ab")
    shutil.copytree(tmp_path / "other" / EXPERIMENT, folder / EXPERIMENT)
    _replace(folder, lambda challenger: make_bundle("skops", challenger))
    assert opened(folder)
    for place, text in ((folder, "x = 1"), (folder / EXPERIMENT / CHALLENGER, "x = 2")):
        (place / "code").mkdir()
        (place / "code" / "own.py").write_text(text)
        seal(place)
    with pytest.raises(BundleError, match="both models bring code of their own, and it differs"):
        opened(folder)


@pytest.mark.parametrize("mode", ["ab", "shadow"])
def test_an_experiment_needs_a_log(tmp_path, mode):
    """Nobody could ever say what came of it."""
    folder = make_experiment(tmp_path / "bundle", mode)
    with pytest.raises(ConfigError, match=r"the experiment new-trees needs the prediction log.*SLIPWAY_DATABASE_URL"):
        create_app(folder, read_config({}))


def test_challenger_that_answers_nothing_is_refused(folder):
    """As any model that does not answer its example row."""
    challenger = folder / EXPERIMENT / CHALLENGER
    (challenger / "model.onnx").write_bytes(b"no graph")
    seal(challenger)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        create_app(folder, read_config({"SLIPWAY_DATABASE_URL": "sqlite:///log.db"}))
