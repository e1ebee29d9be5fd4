"""How large the members of a run are, from its config.json."""

from typing import Any

from ctcd_jax.artifacts.runs import RunConfig, ShapeFields


def member_shapes(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Returns {member: its sizes, with `parameters`} of a run's config.json.

    The sizes are those that the run resolved: a member that starts from another model has none of its own. Where they
    are not recorded, layers and hidden size are those asked for, None where they are not, and no parameters are known.
    """
    resolved = config.get("resolved", {}).get("models", {})
    shapes = {}
    for name, member in config["members"].items():
        if name in resolved:
            shapes[name] = resolved[name] | {"parameters": parameters(resolved[name])}
        else:
            shapes[name] = {key: member.get(key) for key in ("layers", "hidden")}
    return shapes


def parameters(shape: ShapeFields) -> int:
    """Returns the number of parameters of a BERT with its masked-language-model head, which shares the embeddings."""
    hidden, inner = shape["hidden"], shape["intermediate"]
    norm = 2 * hidden
    embeddings = (shape["vocab_size"] + shape["max_positions"] + shape["token_types"]) * hidden + norm
    attention = 4 * (hidden * hidden + hidden) + norm
    feed_forward = 2 * hidden * inner + inner + hidden + norm
    head = hidden * hidden + hidden + norm + shape["vocab_size"]
    return embeddings + shape["layers"] * (attention + feed_forward) + head
