import pytest

from ctcd_jax.jobs import progress
from ctcd_jax.jobs.progress import Display


@pytest.fixture
def clock(monkeypatch):
    """A clock that is put forward by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_goes_by_cost_and_counts_what_runs(clock):
    said = []
    with Display(3, 100.0, said.append) as display:
        clock[0] = 60.0
        display.look(10.0)
        display.ended(20.0, "a")  # a fifth in a minute
        clock[0] = 120.0
        display.look(40.0)
        display.ended(40.0, "b")  # three fifths in two
    assert said == ["a  [1/3, 4m00s left]", "b  [2/3, 1m20s left]"]


def test_a_long_cell_is_heard_of_every_five_minutes(clock):
    said = []
    with Display(2, 100.0, said.append) as display:
        for minute in range(1, 12):
            clock[0] = 60.0 * minute + 1
            display.look(1.0 * minute)
    assert said == ["5%  [0/2, 1h35m left]", "11%  [0/2, 1h29m left]"]


def test_nothing_done_is_no_estimate(clock):
    said = []
    with Display(1, 0.0, said.append) as display:
        display.ended(0.0, "failed")
    assert said == ["failed  [1/1, ? left]"]
