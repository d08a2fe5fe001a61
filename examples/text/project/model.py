"""Your model: one function that returns it unfitted."""

from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder


def build(parameters: dict, seed: int) -> Pipeline:
    """Return an unfitted linear classifier of weighted words: small, fast, and each word's weight can be read.

    A message is one column of text: the name of a single column, without brackets, hands the vectorizer its texts. With this pattern a
    word is a run of two letters or more, so that order numbers are none, and ONNX cuts words as scikit-learn does. With scikit-learn's
    own pattern, which knows the letters of all languages, and with sublinear_tf it does not, and scikit-learn itself would serve the
    model. Words of fewer than three messages, most of them typing mistakes, are left out.
    """
    columns = make_column_transformer(
        (TfidfVectorizer(token_pattern=r"[a-z][a-z]+", ngram_range=(1, 2), min_df=3), "message"),
        (OneHotEncoder(handle_unknown="ignore"), ["channel"]),
    )
    return make_pipeline(columns, LogisticRegression(**parameters, max_iter=1000, random_state=seed))
