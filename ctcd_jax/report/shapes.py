"""How large the members of a run are, from its config.json."""

from typing import Any

from ctcd_jax.artifacts.runs import RunConfig, ShapeFields


def member_shapes(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Returns {member: its sizes, with `parameters`} of a run's config.json.

    The sizes are those that the run resolved: a member that starts from another model has none of its own. Where they
    are not recorded, layers and hidden size are those asked for, None where they are not, and no parameters are known;
    nor are they of an architecture that this version does not know.
    """
    resolved = config.get("resolved", {}).get("models", {})
    shapes = {}
    for name, member in config["members"].items():
        if name in resolved:
            shapes[name] = resolved[name] | {"parameters": _parameters(resolved[name])}
        else:
            shapes[name] = {key: member.get(key) for key in ("layers", "hidden")}
    return shapes


def _parameters(fields: ShapeFields) -> int | None:
    from ctcd_jax.models.registry import parameter_count, shape_from_dict  # JAX takes a second

    try:
        return parameter_count(shape_from_dict(fields))
    except (TypeError, ValueError):
        return None
