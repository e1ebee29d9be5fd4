"""How large the members of a run are, from its config.json."""


def member_shapes(config: dict) -> dict[str, dict]:
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


def _parameters(fields: dict) -> int | None:
    from ctcd_jax.models.registry import parameter_count, shape_from_dict  # JAX takes a second

    try:
        return parameter_count(shape_from_dict(fields))
    except (TypeError, ValueError):
        return None
