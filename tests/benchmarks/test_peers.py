"""The PyTorch peers against the training step itself: the ratios of their times compare the same objective."""

from functools import partial

import jax
import pytest
import torch
from transformers import BertForMaskedLM

from ctcd_jax.benchmarks import workload
from ctcd_jax.benchmarks.peers.compiled import CompiledCTCD, CompiledLayersCTCD
from ctcd_jax.benchmarks.peers.eager import EagerCTCD, as_tensors, model
from ctcd_jax.benchmarks.workload import Case
from ctcd_jax.models.huggingface import save_pretrained
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.sharding import make_mesh, place_rows

PEERS = {
    "eager": EagerCTCD,
    "full": partial(EagerCTCD, full=True),
    "fused": partial(EagerCTCD, fused=True),
    "compiled layers": CompiledLayersCTCD,
    "compiled": CompiledCTCD,
}
SMOKE = Case(preset="smoke", rows=4, length=64, dtype="float32", dropout=0.0)


@pytest.fixture(scope="module", params=("masked", pytest.param("attended", marks=pytest.mark.slow)))
def ours(request, tmp_path_factory):
    """(experiment, batch, directory of the initial weights, losses of two steps) for both kinds of positions."""
    case = Case(**vars(SMOKE) | {"positions": request.param})
    experiment, batch = workload.experiment(case), workload.batch(case)
    mesh = make_mesh(devices=jax.devices()[:1])
    state = init_state(experiment, mesh)
    directory = tmp_path_factory.mktemp(request.param)
    for name, member in state.members.items():
        save_pretrained(directory / name, experiment.models[name], member.params)
    step, losses = make_train_step(experiment, workload.MASKER, mesh), []
    for _ in range(2):
        state, result = step(state, {}, place_rows(batch, mesh))
        losses.append(float(result["loss"]))
    return experiment, batch, directory, losses


@pytest.mark.parametrize("peer", PEERS)
def test_loss_and_update_are_ours(ours, peer):
    experiment, batch, directory, losses = ours
    made = PEERS[peer](experiment, pretrained(experiment, directory))
    # What the compiled ones compile, as it is written.
    made.forward = made.loss
    with torch.compiler.set_stance("force_eager"):
        check(made, experiment, batch, losses)


@pytest.mark.slow
@pytest.mark.parametrize("peer", [CompiledLayersCTCD, CompiledCTCD])
def test_compiled_loss_and_update_are_ours(ours, peer):
    experiment, batch, directory, losses = ours
    check(peer(experiment, pretrained(experiment, directory)), experiment, batch, losses)


def pretrained(experiment, directory):
    return {name: BertForMaskedLM.from_pretrained(directory / name) for name in experiment.models}


def check(peer, experiment, batch, losses):
    # The second loss is equal only if the first update was: gradients, clipping and AdamW.
    for number, ours in enumerate(losses):
        theirs = peer.step(as_tensors(workload.masked(experiment, batch["input_ids"], number)))
        assert theirs == pytest.approx(ours, abs=1e-5)


def test_dropout_and_shape_reach_the_model():
    experiment = workload.experiment(Case(preset="smoke"))
    made = model(experiment.models["teacher"])
    assert made.config.hidden_dropout_prob == made.config.attention_probs_dropout_prob == 0.1
    assert (made.config.num_hidden_layers, made.config.vocab_size) == (2, workload.VOCABULARY)
    student = model(experiment.models["student"])
    assert EagerCTCD(experiment, {"teacher": made, "student": student}).teacher.training
    assert CompiledCTCD(experiment, {"teacher": made, "student": student}).optimizers["student"].defaults["fused"]
    layers = CompiledLayersCTCD(experiment, {"teacher": made, "student": student})
    assert layers.optimizers["teacher"].defaults["fused"]
    assert all(layer._compiled_call_impl for layer in layers.teacher.bert.encoder.layer)
