"""Your own tests: of your data and your model."""

from project.data import load
from project.model import build, relative_error


def test_prices_are_skewed():
    """The mean is well above the median, which is why the model learns the logarithm."""
    price = load()["price"]
    assert price.mean() > 1.1 * price.median() and price.min() > 0


def test_a_flat_twice_as_large_costs_about_twice_as_much():
    """The model multiplies: the price grows with the area by a share, whatever the district."""
    frame = load()
    features = frame.drop(columns=["id", "price"]).fillna("")
    model = build({"alpha": 1.0}, seed=0).fit(features, frame["price"])
    twice = model.predict(features.assign(area_m2=features["area_m2"] * 2)) / model.predict(features)
    assert twice.min() > 1.8 and twice.max() < 2.3


def test_relative_error_is_a_share_of_the_price():
    """Ten per cent off is 0.1, whatever the price."""
    assert abs(relative_error(load()["price"].to_numpy(), load()["price"].to_numpy() * 1.1) - 0.1) < 1e-9
