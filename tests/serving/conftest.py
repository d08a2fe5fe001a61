"""One running service per kind of model, shared by all tests of this folder."""

import pytest

from tests.serving.bundles import KINDS, make_bundle
from tests.serving.service import serving


def _running(kind):
    @pytest.fixture(scope="session", name=kind)
    def fixture(tmp_path_factory):
        with serving(make_bundle(kind, tmp_path_factory.mktemp(kind) / "bundle")) as service:
            yield service

    return fixture


binary, multiclass, regression, columns, skops, skops_frame = (_running(kind) for kind in KINDS)


@pytest.fixture(params=KINDS)
def service(request):
    """Each kind of model in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bundle(tmp_path):
    """A binary bundle that the test may damage."""
    return make_bundle("binary", tmp_path / "bundle")
