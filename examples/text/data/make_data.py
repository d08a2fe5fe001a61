"""Makes text.csv: 2,000 messages to a shop's support, all of them invented. The same seed gives the same file.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

OPENINGS = ["Hello,", "Hi there,", "Good morning,", "Dear team,", "", "", "Please help:", "Quick question:", "Hey,"]
ENDINGS = ["Thanks.", "Thank you!", "Please answer soon.", "", "", "Kind regards", "This is urgent.", "Best wishes"]
THINGS = ["the lamp", "my order", "the blue chair", "the kettle", "this table", "my shelf", "the headphones", "the bag"]
TOPICS = {
    "delivery": [
        "{thing} has not arrived yet, when will it be delivered?",
        "the parcel with {thing} was left at the wrong address",
        "tracking says that {thing} is still in the warehouse",
        "can you ship {thing} to another address?",
        "the courier did not ring and took {thing} back",
        "how many days does the delivery of {thing} take?",
    ],
    "billing": [
        "I was charged twice for {thing}",
        "the invoice for {thing} shows the wrong amount",
        "my credit card was debited but {thing} is not confirmed",
        "I need an invoice with our company's name for {thing}",
        "the discount was not taken off the price of {thing}",
        "when is the payment for {thing} due?",
    ],
    "returns": [
        "I want to send {thing} back, how do I return it?",
        "the return label for {thing} does not print",
        "you have had {thing} for two weeks and there is no refund",
        "may I exchange {thing} for another size?",
        "{thing} does not fit, I would like my money back",
        "where do I drop the parcel for the return of {thing}?",
    ],
    "defect": [
        "{thing} arrived broken, one leg is cracked",
        "{thing} stopped working after three days",
        "there is a scratch on {thing} and a screw is missing",
        "{thing} makes a strange noise and smells burnt",
        "the switch of {thing} does not work",
        "{thing} is damaged and cannot be used",
    ],
}
# What people write whatever it is about: such a message tells little, and part of it is filed wrongly.
VAGUE = ["I have a problem with {thing}", "what is going on with {thing}?", "nobody answers me about {thing}", "please call me about {thing}"]  # fmt: skip
NUMBERED = ["My number is {number}.", "Order {number}.", "It is about {number}.", ""]


def make(rows: int = 2000, seed: int = 1) -> pd.DataFrame:
    """Messages and the desk that dealt with each: every twelfth is vague, every twenty-fifth has a typing mistake."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(1, rows + 1):
        topic = rng.choice(list(TOPICS), p=[0.34, 0.24, 0.22, 0.2])
        said = rng.choice(VAGUE if rng.random() < 1 / 12 else TOPICS[topic])
        parts = [rng.choice(OPENINGS), said, rng.choice(NUMBERED), rng.choice(ENDINGS)]
        text = " ".join(part for part in parts if part)
        text = text.format(thing=rng.choice(THINGS), number=rng.integers(10_000, 99_999))
        if rng.random() < 1 / 25:  # two letters change places
            at = int(rng.integers(0, len(text) - 1))
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        made.append((f"message-{row:05d}", text, rng.choice(["mail", "form", "chat"]), topic))
    return pd.DataFrame(made, columns=["id", "message", "channel", "topic"])


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("text.csv"), index=False)
