"""Your checks: what you expect of the data, and how the model must behave.

`make checks` writes a first version of this file from your data.
"""


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    raise NotImplementedError("write project/checks.py: `make checks` drafts it from the data that load() returns")
