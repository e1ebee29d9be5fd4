"""The step that is compiled ahead is the one that is called: nothing is traced or compiled a second time."""

import threading

import jax

from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.runtime.compilation import CompilationCount
from ctcd_jax.training import step
from ctcd_jax.training.ahead import compiling
from ctcd_jax.training.sharding import make_mesh, place, place_rows, replicated
from ctcd_jax.training.state import init_state, scratch_params
from tests.training.helpers import experiment, masker, rows

ONE_WAY = Cohort({"teacher": Member(trainable=False), "student": Member()}, (Edge("teacher", "student"),))


def test_the_first_call_finds_the_program_made(monkeypatch):
    traced, train_step = [], step.train_step

    def watched(*args):
        traced.append(threading.current_thread())
        return train_step(*args)

    monkeypatch.setattr(step, "train_step", watched)
    made, mesh, batch = experiment(ONE_WAY), make_mesh(), rows()
    compiled = step.make_train_step(made, masker(), mesh)
    with compiling(compiled, made, mesh, lambda: batch):
        state = init_state(made, mesh)
        teacher = scratch_params(made, "teacher")
        frozen = {"teacher": place(teacher, jax.tree.map(lambda _: replicated(mesh), teacher))}
    (thread,) = traced
    assert thread is not threading.current_thread()
    placed = place_rows(batch, mesh)
    with CompilationCount() as count:
        compiled(state, frozen, placed)
    assert count.programs == 0
    assert len(traced) == 1
