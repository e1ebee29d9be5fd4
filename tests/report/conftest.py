import pytest

from tests.report.reporting import make_project


@pytest.fixture(scope="session", autouse=True)
def real(smoke):
    """`REAL` holds what the real run wrote, which the helpers vary."""


@pytest.fixture
def project(tmp_path):
    """A folder of runs, results and latencies to report on."""
    return make_project(tmp_path / "runs")
