"""The figures as text, in at most 120 columns."""

from collections.abc import Mapping, Sequence

from ctcd_jax.text_tables import aligned

LONGEST_NAME = 40
UNSTEADY = 2.0


def heading(result: Mapping) -> str:
    """Returns the machine, the way of measuring, and a table of what is the same in every setting."""
    rows = [("model", "encoder parameters", "stored", "file, MB")]
    rows += [
        (
            short(model["name"]),
            f"{model['parameters']:,}",
            f"{model['stored_parameters']:,}",
            f"{model['bytes'] / 1e6:.1f}",
        )
        for model in result["models"]
    ]
    line = (
        f"{result['cpu']}, torch {result['torch']}; {result['rounds']} rounds in which the models take turns; "
        f"speed-up over {result['reference']}"
    )
    return f"{line}\n{aligned(rows)}"


def block(title: str, measurements: Sequence[Mapping], flops: Mapping[str, int]) -> str:
    """Returns the models side by side in one setting.

    Args:
      title: says which setting.
      measurements: of the models in this setting, as `latency` returns them.
      flops: {model: FLOPs a token} at the setting's length.
    """
    rows = [("model", "MFLOPs/token", "p50 ms", "p95 ms", "sequences/s", "tokens/s", "speed-up")]
    rows += [
        (
            short(row["model"]),
            f"{flops[row['model']] / 1e6:,.2f}",
            f"{row['p50_ms']:,.2f}",
            f"{row['p95_ms']:,.2f}",
            f"{row['sequences_per_second']:,.1f}",
            f"{row['tokens_per_second']:,.0f}",
            "–" if row["speedup"] is None else f"{row['speedup']:.2f}x",
        )
        for row in measurements
    ]
    return f"\n{title}\n{aligned(rows)}"


def unsteady(measurements: Sequence[Mapping]) -> str | None:
    """Returns a warning where a 95th percentile is more than twice its median, as on a machine that does other work."""
    count = sum(row["p95_ms"] > UNSTEADY * row["p50_ms"] for row in measurements)
    if not count:
        return None
    return (
        f"\nUnsteady: in {count} of {len(measurements)} measurements the 95th percentile is over {UNSTEADY:g} times "
        "the median. Where\nother programs want the cores, fewer --threads help, or OMP_WAIT_POLICY=PASSIVE in the "
        "environment."
    )


def short(name: str) -> str:
    """Returns the end of a name that is too long for a table."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
