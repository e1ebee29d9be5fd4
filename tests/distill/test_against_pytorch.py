"""Equations 1-5 against an independent PyTorch autograd implementation over Hugging Face's BERT, both in float64.

Compared are the loss and the gradient of every parameter of every member, for every method, divergence and set of
positions, at several temperatures and weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict
from transformers import BertForMaskedLM as TheirModel

from ctcd_jax.distill import Cohort, Edge, Member, Outputs, cohort_loss
from ctcd_jax.models import BertConfig, BertForMaskedLM
from ctcd_jax.models.bert_checkpoint import tensors
from ctcd_jax.models.huggingface import save_pretrained

SIZES = {"teacher": (3, 24), "student": (2, 24), "student1": (2, 16), "student2": (2, 16)}
BOTH = {"teacher": Member(), "student": Member()}
COMMUNITY = {"teacher": Member(trainable=False), "student1": Member(), "student2": Member()}

METHODS = {
    "standalone": ({"student": Member()}, ()),
    "oneway": (BOTH | {"teacher": Member(trainable=False)}, (("teacher", "student"),)),
    "cotrain_oneway": (BOTH, (("teacher", "student"),)),
    "ctcd": (BOTH, (("teacher", "student"), ("student", "teacher"))),
    "reversed": (BOTH | {"student": Member(trainable=False)}, (("student", "teacher"),)),
    "mutual": ({"student1": Member(), "student2": Member()}, (("student1", "student2"), ("student2", "student1"))),
    "community": (
        COMMUNITY,
        (("teacher", "student1"), ("teacher", "student2"), ("student1", "student2"), ("student2", "student1")),
    ),
}

OPTIONS = [
    {"divergence": divergence, "positions": positions, "temperature": temperature, "tau_squared": squared}
    for divergence in ("forward_kl", "reverse_kl", "jensen_shannon")
    for positions in ("masked", "attended")
    for temperature, squared in ((1.0, False), (2.0, True), (3.0, False))
]
# Every method with the paper's objective at two weights; every option with CTCD; the richer ones with the community.
CASES = [(method, {"weight": weight}) for method in METHODS for weight in (1.0, 4.0)]
CASES += [("ctcd", {"weight": 2.0} | options) for options in OPTIONS if options["temperature"] != 3.0]
RICHER = [("ctcd", {"weight": 2.0} | options) for options in OPTIONS if options["temperature"] == 3.0]
RICHER += [("community", {"weight": 0.5} | options) for options in OPTIONS if options["temperature"] == 2.0]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in RICHER]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Member name -> (config, params, their model in float64) with equal random parameters."""
    made = {}
    for seed, (name, (layers, hidden)) in enumerate(SIZES.items()):
        config = BertConfig(53, layers, hidden, heads=4, intermediate=2 * hidden, max_positions=12)
        ids = jnp.ones((1, 2), jnp.int32)
        params = BertForMaskedLM(config).init(jax.random.key(seed), ids, ids)["params"]
        rng = np.random.default_rng(seed)
        params = jax.tree.map(lambda x, rng=rng: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), params)
        directory = tmp_path_factory.mktemp(name)
        save_pretrained(directory, config, params)
        made[name] = config, params, TheirModel.from_pretrained(directory).double().eval()
    return made


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(7)
    ids = rng.integers(1, 53, (4, 12))
    for row, keep in enumerate((12, 7, 10, 3)):
        ids[row, keep:] = 0
    labels = np.where((rng.random(ids.shape) < 0.4) & (ids != 0), rng.integers(1, 53, ids.shape), -100)
    assert 5 < (labels >= 0).sum() < (ids != 0).sum()
    return ids, labels


def their_divergence(options, source, target):
    """Section 3 of the paper, written out with probabilities."""
    tau = options.get("temperature", 1.0)
    p, r = torch.softmax(source.detach() / tau, -1), torch.softmax(target / tau, -1)
    kind = options.get("divergence", "forward_kl")
    if kind == "forward_kl":
        value = (p * (p / r).log()).sum(-1)
    elif kind == "reverse_kl":
        value = (r * (r / p).log()).sum(-1)
    else:
        m = (p + r) / 2
        value = ((p * (p / m).log()).sum(-1) + (r * (r / m).log()).sum(-1)) / 2
    return value * tau**2 if options.get("tau_squared") else value


def their_loss_and_gradients(method, options, models, ids, labels):
    members, edges = METHODS[method]
    ids, labels = torch.from_numpy(ids), torch.from_numpy(labels)
    real, predicted = ids != 0, labels >= 0
    for name in members:
        models[name][2].zero_grad()
    logits = {name: models[name][2](input_ids=ids, attention_mask=real.long()).logits for name in members}
    loss = sum(
        torch.nn.functional.cross_entropy(logits[name][predicted], labels[predicted])
        for name, member in members.items()
        if member.trainable
    )
    for source, target in edges:
        each = their_divergence(options, logits[source], logits[target])
        where = real if options.get("positions") == "attended" else predicted
        loss = loss + options["weight"] * each[where].mean()
    loss.backward()
    gradients = {}
    for name, member in members.items():
        if member.trainable:
            config, _, model = models[name]
            theirs = dict(model.named_parameters())
            gradients[name] = {
                path: (theirs[tensor].grad.T if transpose else theirs[tensor].grad).numpy()
                for path, tensor, transpose in tensors(config.layers)
            }
    return loss.item(), gradients


def our_loss_and_gradients(method, options, models, ids, labels):
    members, edges = METHODS[method]
    cohort = Cohort(members, tuple(Edge(*ends, **options) for ends in edges))
    with jax.enable_x64(True):
        params = {name: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), models[name][1]) for name in members}
        mask = jnp.asarray(ids != 0)

        def loss(params):
            outputs = {}
            for name in members:
                model = BertForMaskedLM(models[name][0], jnp.float64)
                hidden, *head = model.apply({"params": params[name]}, ids, mask, None, method="outputs")
                outputs[name] = Outputs(hidden.reshape(-1, hidden.shape[-1]), tuple(head))
            weights = mask.reshape(-1).astype(jnp.float64)
            return cohort_loss(cohort, outputs, jnp.asarray(labels).reshape(-1), weights)[0]

        value, gradients = jax.value_and_grad(loss)(params)
        return float(value), {name: flatten_dict(jax.tree.map(np.asarray, gradients[name])) for name in members}


@pytest.mark.parametrize(
    ("method", "options"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))
)
def test_value_and_every_gradient(method, options, models, batch):
    value, gradients = our_loss_and_gradients(method, options, models, *batch)
    expected_value, expected = their_loss_and_gradients(method, options, models, *batch)
    assert value == pytest.approx(expected_value, rel=1e-10)
    for name, member in METHODS[method][0].items():
        if not member.trainable:
            assert all((leaf == 0).all() for leaf in gradients[name].values())
            continue
        whole = np.sqrt(sum(np.sum(leaf**2) for leaf in expected[name].values()))
        assert whole > 1e-3
        for path, leaf in expected[name].items():
            difference = np.linalg.norm(gradients[name][path] - leaf)
            assert difference <= 1e-5 * max(np.linalg.norm(leaf), 1e-3 * whole), (name, path)
