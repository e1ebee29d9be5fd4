"""`torch.compile`: the outputs of eager PyTorch, compiled before they are timed, or one line that says why not."""

from contextlib import nullcontext

import pytest
import torch

from ctcd_jax.errors import UserError
from ctcd_jax.latency import latency, runtimes
from ctcd_jax.latency.encoders import load_encoder, random_ids
from ctcd_jax.latency.timing import time_rounds


@pytest.fixture
def traced_only(monkeypatch):
    """`torch.compile` without its slow half: the graph that was traced runs as it is. Counts graphs."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **options: compile_(*a, **options, backend=backend))
    return graphs


def test_every_model_is_compiled_whole_before_it_is_timed(models, traced_only):
    encoders = {str(number): load_encoder(models[number]) for number in (0, 1)}
    ids, lines = random_ids(list(encoders.values()), 2, 8), []
    # One program is as many as PyTorch would keep; it would run the second model without, and say nothing.
    with torch._dynamo.config.patch(recompile_limit=1), torch.inference_mode():
        calls = runtimes.compiled_calls(encoders, ids, lines.append, nullcontext)
        assert len(traced_only) == 2
        seconds = time_rounds(calls, rounds=2)
        for name, encoder in encoders.items():
            torch.testing.assert_close(calls[name]().last_hidden_state, encoder(input_ids=ids).last_hidden_state)
    assert len(traced_only) == 2
    assert set(seconds) == {"0", "1"}
    assert lines[0].startswith("compiled in ")


def test_compiled_figures_stand_beside_eager_ones(models, traced_only):
    result = latency(
        models, batch_sizes=[1], lengths=[8], runtimes=["compile", "eager"], devices=["cpu"], rounds=2, log=print
    )
    assert [row["runtime"] for row in result["measurements"]] == ["eager", "eager", "compile", "compile"]
    assert "onnx_differences" not in result


def test_without_a_compiler_it_is_one_line_before_anything_is_timed(models, monkeypatch):
    lines = []
    with torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/g++"), "force_disable_caches": True}):
        torch.compiler.reset()
        with pytest.raises(UserError, match=r"^--runtime compile: torch.compile failed .*install it, or leave compile"):
            latency(models, runtimes=["eager", "compile"], devices=["cpu"], rounds=1, log=lines.append)
    torch.compiler.reset()
    assert not any("p50" in line for line in lines)


@pytest.mark.slow
def test_compiled_code_gives_the_outputs_of_the_eager_model(models):
    encoder = load_encoder(models[0])
    ids = random_ids([encoder], 2, 8)
    runtimes.check_compiler("cpu")
    with torch.inference_mode():
        calls = runtimes.compiled_calls({"teacher": encoder}, ids, print, nullcontext)
        expected = encoder(input_ids=ids).last_hidden_state
        torch.testing.assert_close(calls["teacher"]().last_hidden_state, expected, rtol=1e-4, atol=1e-5)
