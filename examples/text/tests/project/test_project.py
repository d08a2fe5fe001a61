"""Your own tests: of your data and your model."""

import pytest

from project.data import load
from project.model import build


@pytest.fixture(scope="module")
def model():
    """The model, fitted on everything."""
    frame = load()
    return build({"C": 5.0}, seed=0).fit(frame[["message", "channel"]], frame["topic"])


@pytest.mark.parametrize(
    ("message", "topic"),
    [
        ("The courier left my parcel at the wrong address", "delivery"),
        ("I was charged twice", "billing"),
        ("I want my money back, how do I return it?", "returns"),
        ("It arrived broken", "defect"),
    ],
)
def test_a_plain_message_reaches_its_desk(model, message, topic):
    """Words that no message of the data has in this order still lead to the right desk."""
    asked = load()[["message", "channel"]].head(1).assign(message=message, channel="mail")
    assert model.predict(asked)[0] == topic


def test_no_order_number_is_a_word_of_the_model(model):
    """The model has learned words, not orders."""
    words = model[0].named_transformers_["tfidfvectorizer"].vocabulary_
    assert not [word for word in words if any(letter.isdigit() for letter in word)]
