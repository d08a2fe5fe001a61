"""PyTorch modules: trained by the seed, refused in words before that, served as one graph."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import ROOT
from pipeline.errors import ProjectError
from pipeline.formats import family
from pipeline.formats.families import torch_network
from tests.pipeline.formats.networks.made import dataset, fitted, network, served, torch

nn = torch.nn
pytestmark = pytest.mark.usefixtures("exporter_read_once")


class Changed(nn.Module):
    """A linear network whose forward() does something else with its result, `how`."""

    def __init__(self, how, width=3, outputs=3):
        super().__init__()
        self.line, self.how = nn.Linear(width, outputs), how

    def forward(self, rows):
        return self.how(self.line(rows))


def branches(outputs):
    """A choice by the values in a tensor."""
    return outputs * 2 if outputs.sum() > 1e9 else outputs


FAULTS = {
    "first layer takes 4 values, but a row has 3": nn.Linear(4, 3),
    "a layer of the network takes 9 values and is given 8": nn.Sequential(nn.Linear(3, 8), nn.Linear(9, 3)),
    "returns shape (8, 5) for 8 rows; needed is (8, 3)": nn.Linear(3, 5),
    "returns probabilities; return the logits": nn.Sequential(nn.Linear(3, 3), nn.Softmax(1)),
    "depends on the values in a tensor": Changed(branches),
    "takes one number of rows only": Changed(lambda outputs: torch.stack([row * 2 for row in outputs])),
    "is no finite number for ordinary rows": Changed(lambda outputs: torch.log(outputs - 1e6)),
    "returns tuple, not one tensor": Changed(lambda outputs: (outputs, 1)),
    "a row alone otherwise than among others": Changed(lambda outputs: outputs - outputs.mean(0)),
    "cannot be trained": Changed(lambda outputs: torch.from_numpy(outputs.detach().numpy() * 2)),
    "nothing to learn": Changed(lambda outputs: outputs).requires_grad_(False),
}


@pytest.mark.parametrize(("said", "module"), FAULTS.items(), ids=FAULTS)
def test_a_network_that_cannot_work_is_refused_before_the_fit(said, module):
    """What is wrong with it is found by one small batch and one export, and said in words."""
    assert said in torch_network.unfit(module, dataset("multiclass"))


def test_a_network_that_computes_otherwise_is_looked_at_anew():
    """One that became a graph speaks for no other of the same class and layers."""
    data = dataset("multiclass")
    assert not torch_network.unfit(Changed(lambda outputs: outputs * 2), data)
    assert "depends on the values in a tensor" in torch_network.unfit(Changed(branches), data)


def test_a_sigmoid_at_the_end_is_refused_before_the_fit():
    """Its outputs would be taken for logits; a network with outputs of any size is taken."""
    squashed = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
    assert "without the sigmoid" in torch_network.unfit(squashed, dataset())
    assert torch_network.unfit(squashed[:3], dataset()) == ""


def test_a_network_beyond_the_limit_of_the_bundle_is_refused_before_the_fit():
    """Its size is known from its weights."""
    data = dataset()
    gate = data.settings.gate.model_copy(update={"max_bundle_mb": 0.01})
    small = replace(data, settings=data.settings.model_copy(update={"gate": gate}))
    assert "max_bundle_mb allows 0.01" in torch_network.unfit(
        nn.Sequential(nn.Linear(3, 4096), nn.Linear(4096, 2)), small
    )


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("regression", 1)])
def test_a_network_is_served_as_it_was_trained(task, outputs):
    """Scaler, network and answers are one graph, for any number of rows, empty cells and unseen text included."""
    data = dataset(task, text=True, nulls=True)
    model = fitted(network(outputs, nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2)), data)
    found, tried, contract = served(model, data)
    assert found.form["format"] == "onnx"
    assert {one.where for one in tried} >= {"on rows with null", "on text that training did not see"}
    assert contract["onnx"]["probabilities"] == (None if task == "regression" else "probabilities")


def test_the_same_seed_gives_the_same_bytes_and_no_path_is_in_them():
    """Two trainings of the same data make the same file, whatever the random state before; nothing of the machine is in it."""
    data, graphs = dataset("multiclass"), []
    for state in (5, 6):
        module = network(3, nn.ReLU(), nn.Dropout(0.3))
        torch.manual_seed(state)
        forms = next(torch_network.formats(fitted(module, data), data))
        graphs.append([form.files["model.onnx"] for form in forms])
    assert graphs[0] == graphs[1]
    assert not any(word in graph for graph in graphs[0] for word in (b".py", b"/home", b"/tmp", str(ROOT).encode()))


def test_a_fit_leaves_the_module_and_the_random_state_as_they_were():
    """The module that build() returned can be fitted again, and nobody else's random numbers change."""
    data, module = dataset(), nn.Sequential(nn.Linear(3, 2))
    before, state = module[0].weight.clone(), torch.get_rng_state()
    fitted(module, data)
    assert torch.equal(module[0].weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_ends_when_the_loss_on_rows_set_aside_falls_no_more(capsys):
    """The best epoch is kept, and what happens is told."""
    data = dataset(epochs=300, patience=3, learning_rate=0.1)
    model = fitted(network(2), data)
    losses = [one.aside for one in model.epochs]
    assert len(losses) < 300
    assert len(losses) - (int(np.argmin(losses)) + 1) == 3
    assert torch_network.history(model) == {
        "loss_training": [one.learned for one in model.epochs],
        "loss_stopping": losses,
    }
    assert f"kept as it was after epoch {int(np.argmin(losses)) + 1}" in capsys.readouterr().out


def test_without_rows_set_aside_it_is_trained_for_all_epochs():
    """Where none can be set aside there is no early stopping."""
    data = dataset(epochs=7)
    training = family.training_on(data, np.flatnonzero(~data.holdout))
    training = replace(training, stop_on=np.zeros(len(training.rows), dtype=bool))
    model = torch_network.fit(network(2), data, training)
    assert len(model.epochs) == 7 and list(torch_network.history(model)) == ["loss_training"]


def test_weights_decide_what_is_learned():
    """Rows without weight teach nothing: the network that sees only weighted rows answers with their class."""
    data = dataset()
    training = family.training_on(data, np.flatnonzero(~data.holdout))
    of_yes = data.y[training.rows] == 1
    model = torch_network.fit(network(2), data, replace(training, weights=of_yes.astype(float)))
    assert torch_network.answer(model, data, data.features)[:, 1].min() > 0.5


def test_balanced_classes_raise_the_answers_for_the_rare_one():
    """With class_weights = "balanced" a rare class counts as much as the common one."""
    answers = []
    for weights in ("none", "balanced"):
        data = dataset("multiclass", class_weights=weights)
        rare = np.flatnonzero((data.target != "top") | (np.arange(len(data.target)) % 5 == 0))
        some = replace(data, features=data.features.iloc[rare], target=data.target[rare], ids=data.ids[rare])
        answers.append(family.answer(fitted(network(3), some), some, some.features)[:, 2].mean())
    assert answers[1] > answers[0] + 0.05


def test_a_loss_that_is_no_number_ends_the_training():
    """It is said at once, with what to do."""
    with pytest.raises(ProjectError, match="no finite number any more in epoch") as error:
        fitted(Changed(lambda outputs: outputs**9 * 1e25, outputs=1), dataset("regression"))
    assert "learning_rate" in error.value.then


def test_too_many_texts_for_a_column_each_are_refused():
    """A column of names is no category."""
    data = dataset(rows=400)
    names = pd.Series([f"name {place}" for place in range(len(data.ids))], dtype=object)
    data = replace(data, features=data.features.assign(name=names), kinds={**data.kinds, "name": "text"})
    assert "different texts, and a network takes at most 200" in torch_network.unfit(network(2), data)


@pytest.mark.parametrize("wrong", [{"drop": "a"}, {"text": "b"}])
def test_rows_that_do_not_fit_are_refused(wrong):
    """Without one of its columns, or with text among numbers, a network raises instead of answering."""
    data = dataset()
    model, rows = fitted(nn.Linear(3, 2), data), data.features
    rows = rows.drop(columns=wrong["drop"]) if "drop" in wrong else rows.assign(**{wrong["text"]: "x"})
    with pytest.raises((KeyError, ValueError)):
        family.answer(model, data, rows)


def test_an_estimator_around_a_network_is_refused_before_the_fit():
    """A net inside another estimator could not be stored without pickle."""
    skorch, selection = pytest.importorskip("skorch"), pytest.importorskip("sklearn.model_selection")
    model = selection.GridSearchCV(skorch.NeuralNetClassifier(nn.Linear), {"lr": [0.1]})
    with pytest.raises(ProjectError, match="it holds NeuralNetClassifier"):
        fitted(model, dataset())
