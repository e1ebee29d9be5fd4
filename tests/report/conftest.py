import pytest

from tests.report.reporting import make_project


@pytest.fixture
def project(tmp_path):
    """A folder of runs, results and latencies to report on."""
    return make_project(tmp_path / "runs")
