"""A command on the prediction log that does not end well is an error, wherever it ran."""

import pytest

from delivery import log_command
from pipeline.errors import DeployError

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(("status", "said"), [(1, "error: away"), (-9, ""), (137, ""), (None, "")])
def test_what_was_printed_counts_only_after_success(status, said):
    """Half of a log must not pass for all of it: an engine may not even know how a command in a container ended."""
    lines = [said] if said else []
    with pytest.raises(DeployError, match=r"the prediction log of production: (away|the command ended with status)"):
        log_command.checked("production", status, b"half", lines)
    assert log_command.checked("production", 0, b"all", lines) == b"all"
