"""A trace that cannot be written is one line. (What is in one: `test_loop`.)"""

import jax
import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.training.profiling import Profiler


def test_a_trace_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "profile").write_text("")
    with pytest.raises(UserError, match=r"profile/process-0: Not a directory; make room and start again"):
        Profiler((1, 2), tmp_path, print).before_step(1, {})
    (tmp_path / "profile").unlink()

    def stop():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    profiler = Profiler((1, 2), tmp_path, print)
    profiler.before_step(1, {})
    with pytest.raises(UserError, match=r"^train.profile_steps: the trace .* \(RESOURCE_EXHAUSTED: No space left on"):
        profiler.after_step(2, {})
    profiler.close()  # it is over, and does not fail again on the way out


@pytest.mark.parametrize(("steps", "session"), [(None, range(1, 9)), ((3, 5), range(5, 9)), ((3, 5), range(1, 3))])
def test_outside_its_steps_nothing_is_begun(steps, session, tmp_path, monkeypatch):
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: pytest.fail("begun"))
    profiler = Profiler(steps, tmp_path, print)
    for step in session:
        assert profiler.before_step(step, {}) == profiler.after_step(step + 1, {}) == 0.0
    profiler.close()
    assert list(tmp_path.iterdir()) == []
