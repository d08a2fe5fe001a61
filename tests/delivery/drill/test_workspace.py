"""The settings of a drill's copy."""

import tomllib

import pytest

from delivery.drill import workspace
from pipeline.artifacts import ROOT

pytestmark = pytest.mark.quick


def test_the_copy_has_no_limits_of_its_own():
    """In the changed world no model may be as good as they ask, so the alarm would never close; other tables stay."""
    before = (ROOT / "pipeline.toml").read_text(encoding="utf-8") + "\n[monitor.limits_of_ours]\n"
    found = tomllib.loads(workspace.with_settings(before))
    assert "limits" not in found["gate"] and "limits" not in found["monitor"]
    assert found["monitor"]["window_days"] == 7 and "limits_of_ours" in found["monitor"]
