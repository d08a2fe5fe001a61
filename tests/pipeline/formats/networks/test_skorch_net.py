"""skorch nets, alone and at the end of a pipeline: refused in words before the fit, served as one graph with the steps before them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.errors import ProjectError
from pipeline.formats import family
from pipeline.formats.families import skorch_net
from tests.pipeline.formats.networks.made import dataset, fitted, network, served, torch

skorch = pytest.importorskip("skorch", reason="skorch is not installed: make .venv/torch.ready")
nn = torch.nn
pytestmark = pytest.mark.usefixtures("exporter_read_once")


class Layers(nn.Module):
    """One hidden layer, and at the end a softmax if asked for."""

    def __init__(self, outputs=2, softmax=False):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))
        self.softmax = softmax

    def forward(self, rows):
        outputs = self.layers(rows)
        return torch.softmax(outputs, dim=1) if self.softmax else outputs


def pipeline(net):
    """The net behind steps for numbers and text."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = [(numbers, ["a", "b", "c"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"])]
    return make_pipeline(make_column_transformer(*columns), net)


def net(kind="NeuralNetClassifier", **parameters):
    """A net that trains for a moment."""
    given = {"max_epochs": 4, "lr": 0.02, "optimizer": torch.optim.Adam, "verbose": 0, **parameters}
    return getattr(skorch, kind)(Layers, **given)


NETS = {
    "binary": net(module__softmax=True),
    "binary, one output": net("NeuralNetBinaryClassifier", module__outputs=1),
    "multiclass": net(module__outputs=3, criterion=nn.CrossEntropyLoss),
    "regression": net("NeuralNetRegressor", module__outputs=1),
}


@pytest.mark.parametrize("name", NETS)
def test_a_pipeline_that_ends_in_a_net_is_served_as_it_was_trained(name):
    """Steps, network and what makes probabilities are one graph, empty cells and unseen text included."""
    data = dataset(name.split(",")[0], text=True, nulls=True)
    model = fitted(pipeline(NETS[name]), data)
    found, _, _ = served(model, data)
    assert found.form["format"] == "onnx"


def test_the_same_seed_gives_the_same_bytes():
    """Two trainings of the same data make the same file, with no path of the machine in it."""
    data, graphs = dataset(text=True, nulls=True), []
    for _ in range(2):
        forms = next(skorch_net.formats(fitted(pipeline(NETS["binary"]), data), data))
        graphs.append(next(forms).files["model.onnx"])
        forms.close()
    assert graphs[0] == graphs[1]
    assert b".py" not in graphs[0]


def test_a_bare_net_takes_the_columns_as_they_are():
    """Without steps the net gets the matrix in float32, and it is no matter that the data are float64."""
    data = dataset("regression")
    assert (
        served(fitted(net("NeuralNetRegressor", module__outputs=1), data), data)[0].form["onnx"]["layout"] == "matrix"
    )


def test_a_net_stops_by_the_rows_that_every_model_sets_aside():
    """Where the net sets rows aside, they are those of the split, so that groups and time are kept to."""
    data = dataset()
    seen = {}

    class Watch(skorch.callbacks.Callback):
        def on_train_begin(self, net, X, y, **_):
            seen["learned"] = len(X)

        def on_epoch_end(self, net, dataset_valid, **_):
            seen["aside"] = len(dataset_valid)

    fitted(make_pipeline(StandardScaler(), net(module__softmax=True, callbacks=[Watch()])), data)
    aside = int(family.training_on(data, np.flatnonzero(~data.holdout)).stop_on.sum())
    assert (seen["learned"], seen["aside"]) == (int((~data.holdout).sum()) - aside, aside)


def test_a_last_batch_of_one_row_is_left_out():
    """Batch normalisation cannot take it, and which rows are set aside is nobody's choice."""
    data = dataset("regression")
    training = family.training_on(data, np.flatnonzero(~data.holdout))
    size = int((~training.stop_on).sum()) - 1
    model = net("NeuralNetRegressor", module__outputs=1, max_epochs=1, batch_size=size)
    assert np.isfinite(skorch_net.fit(model, data, training).answering.low).all()


FAULTS = {
    "is text, and the net takes numbers": (net(module__softmax=True), {"text": True}),
    "empty cells or infinite numbers": (make_pipeline(StandardScaler(), net(module__softmax=True)), {"nulls": True}),
    "they do not sum to one": (net(), {}),
    "gives shape (8, 5) for 8 rows": (net(module__outputs=5, criterion=nn.CrossEntropyLoss), {}),
    "first layer takes 7 values, but a row has 3": (skorch.NeuralNetClassifier(nn.Linear(7, 2), verbose=0), {}),
}


@pytest.mark.parametrize(("said", "given"), FAULTS.items(), ids=FAULTS)
def test_a_net_that_cannot_work_is_refused_before_the_fit(said, given):
    """What is wrong with it is found by one small batch and said in words."""
    model, columns = given
    assert said in skorch_net.unfit(model, dataset(**columns))


def test_weights_are_refused():
    """A net would ignore them in silence."""
    data = dataset()
    training = family.training_on(data, np.flatnonzero(~data.holdout))
    with pytest.raises(ProjectError, match="takes no sample weights"):
        skorch_net.fit(net(module__softmax=True), data, replace(training, weights=np.ones(len(training.rows))))


def test_a_loss_that_is_no_number_ends_the_training():
    """It is said at once, with what to do."""
    data = dataset("regression")
    model = net("NeuralNetRegressor", module__outputs=1, lr=1e30, optimizer=torch.optim.SGD)
    with pytest.raises(ProjectError, match="no finite number any more in epoch"):
        fitted(make_pipeline(StandardScaler(), model), data)


def test_a_step_that_has_no_counterpart_is_refused_before_the_fit():
    """There is no other format for a network: the image holds no PyTorch."""
    from sklearn.preprocessing import FunctionTransformer

    steps = make_pipeline(FunctionTransformer(np.square), net(module__softmax=True))
    assert "the steps before the net: it cannot become ONNX" in skorch_net.unfit(steps, dataset())


def test_a_module_is_no_net():
    """Families do not take each other's models."""
    assert not skorch_net.takes(network(2))
    assert family.family_of(network(2)).NAME == "PyTorch"
    assert family.family_of(pipeline(net())).NAME == "skorch"
