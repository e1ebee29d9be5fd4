"""PyTorch's two ways to run an encoder: as it is written, and compiled for one shape."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ctcd_jax.errors import UserError, first_line, is_out_of_memory

if TYPE_CHECKING:
    import torch

Calls = dict[str, Callable[[], object]]


def eager_calls(encoders: Mapping[str, Callable], ids: "torch.Tensor") -> Calls:
    """Returns {name: runs a batch of `ids` int64[B, L] without padding}, given what a tokenizer returns."""
    inputs = {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape)}
    return {name: lambda encoder=encoder: encoder(**inputs) for name, encoder in encoders.items()}


def compiled_calls(
    encoders: Mapping,
    ids: "torch.Tensor",
    log: Callable[[str], None],
    unless_it_runs: Callable[[str], AbstractContextManager],
) -> Calls:
    """The same of encoders that `torch.compile` has compiled for one shape, which is done on return.

    Args:
      encoders: {name: module}, on the device of `ids`.
      ids: int64[B, L].
      log: called with the time that it took.
      unless_it_runs: given an encoder's name, a context that takes the UserError if it cannot be compiled.
    """
    import torch

    # Programs of other shapes would be looked through at every call, and count towards a limit past which PyTorch
    # quietly goes on without compiling.
    torch.compiler.reset()
    calls = eager_calls({name: torch.compile(encoder, dynamic=False) for name, encoder in encoders.items()}, ids)
    start = time.perf_counter()
    with torch._dynamo.config.patch(recompile_limit=8 * len(calls), fail_on_recompile_limit_hit=True):
        for name, call in calls.items():
            with unless_it_runs(name):
                _compile(name, call)
    log(f"compiled in {time.perf_counter() - start:.1f} s")
    return calls


def check_compiler(device: str) -> None:
    """Raises UserError where `torch.compile` cannot work on `device`, before anything is measured."""
    import torch

    number = torch.ones(8, device=device)
    _compile("a sum", lambda: torch.compile(torch.add)(number, number))


def _compile(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"--runtime compile: torch.compile failed on {name} ({first_line(error)}); it needs a C++ compiler (g++ or "
            "the one CXX names), and Triton on a GPU: install it, or leave compile out"
        ) from error
