"""Draws figure.png and writes table.md from plans.jsonl beside it: what the compiled steps hold, compute and send, and
the formulas of docs/SCALING.md.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from ctcd_jax.runtime.collectives import Collective

PLACE = Path(__file__).parent
NAMES = {"ctcd": "CTCD", "community": "Community KD"}
TRAINED = {"ctcd": 119_798_388, "community": 133_974_132}  # parameters, of which each has a gradient of 4 bytes
LINKS, FAR = "#0067b1", "#b30000"
COLOURS = {"ctcd": "#0067b1", "community": "#b35900"}
COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
# An A100 of the paper's step: FLOP/s, bytes a second to its machine and to others, devices a machine.
PEAK, LINK, NETWORK, MACHINE = 312e12, 300e9, 25e9, 8
SHARE = 0.17  # of the peak: what the step reached on one H100, results/gpu


def main() -> None:
    plans = [json.loads(line) for line in (PLACE / "plans.jsonl").open()]
    order = {name: at for at, name in enumerate(NAMES)}
    kinds = [plan["case"][1].split(":")[0] for plan in plans]
    plans.sort(key=lambda plan: (order[plan["case"][0]], kinds.index(plan["case"][1].split(":")[0]), plan["devices"]))
    (PLACE / "table.md").write_text(table(plans))
    figure, (sent, bound) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    draw_sent(sent, plans)
    draw_bound(bound, [plan for plan in plans if plan["case"][0] == "ctcd" and plan["case"][4]])
    figure.savefig(PLACE / "figure.png", dpi=120)


def table(plans: list[dict]) -> str:
    """Returns a row for each plan, as Markdown."""
    lines = [
        "| cohort | devices | mesh | rows | GiB held + temporary | collectives, MB "
        "| a device sends, MB (to other machines) | arithmetic / memory / links / network, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for plan in plans:
        preset, target, _, rows, dropout = plan["case"]
        kinds: dict[str, float] = {}
        for each in collectives(plan):
            kinds[each.kind] = kinds.get(each.kind, 0) + each.size / 1e6
        bounds = [plan["bounds_seconds"].get(name) for name in ("arithmetic", "memory", "links", "network")]
        lines.append(
            f"| {NAMES[preset]}{'' if dropout else ', no attention dropout'} | {target} "
            f"| data {plan['mesh'][0]} x fsdp {plan['mesh'][1]} | {rows} "
            f"| {plan['held_bytes'] / 2**30:.2f} + {plan['temporary_bytes'] / 2**30:.2f} "
            f"| {', '.join(f'{kind} {size:,.0f}' for kind, size in kinds.items() if size >= 0.5) or 'none'} "
            f"| {sum(each.sent for each in collectives(plan)) / 1e6:,.0f} "
            f"({sum(each.sent_far for each in collectives(plan)) / 1e6:,.0f}) "
            f"| {' / '.join('–' if each is None else f'{1e3 * each:.2f}' for each in bounds)} |"
        )
    return "\n".join(lines) + "\n"


def collectives(plan: dict) -> list[Collective]:
    return [Collective(**each) for each in plan["collectives"]]


def draw_sent(axis, plans: list[dict]) -> None:
    """What a device sends in a step, and 2 G (n - 1) / n."""
    for preset, colour in COLOURS.items():
        gradients = 4 * TRAINED[preset]
        axis.plot(COUNTS, [2 * gradients * (n - 1) / n / 1e6 for n in COUNTS], color=colour, linewidth=1,
                  label=f"{NAMES[preset]}: $2G(n-1)/n$")  # fmt: skip
        for sharded, marker in ((False, "o"), (True, "^")):
            found = [plan for plan in plans if plan["case"][0] == preset and (plan["mesh"][1] > 1) == sharded]
            axis.plot(
                [plan["devices"] for plan in found],
                [sum(each.sent for each in collectives(plan)) / 1e6 for plan in found],
                marker, color=colour, markersize=6, label=f"compiled, {'fsdp' if sharded else 'data'}",
            )  # fmt: skip
    axis.set_title("what a device sends in a step, MB", loc="left", fontsize=10)
    finish(axis)


def draw_bound(axis, plans: list[dict]) -> None:
    """What arithmetic and sending take on A100, by formula, and what is compiled."""
    alone = next(plan for plan in plans if plan["case"][1] == "a100-80:1")
    counts, whole, gradients = COUNTS[:7], 1e3 * alone["flops"] / PEAK, 4 * TRAINED["ctcd"]
    for share, style in ((1, "-"), (SHARE, "--")):
        label = f"arithmetic at {share:.0%} of the peak"
        axis.plot(counts, [whole / share / n for n in counts], style, color="#555555", linewidth=1, label=label)
    ways = {
        "links of a machine": (LINKS, [(n, 1 - 1 / min(n, MACHINE)) for n in counts[1:]], LINK),
        "network between machines": (FAR, [(n, 1 - MACHINE / n) for n in counts if n > MACHINE], NETWORK * MACHINE),
    }
    for label, (colour, parts, rate) in ways.items():
        axis.plot(*zip(*((n, 2e3 * gradients * part / rate) for n, part in parts), strict=True), color=colour,
                  linewidth=1, label=label)  # fmt: skip
    for plan in plans:
        if plan["case"][1].startswith("a100"):
            sharded = plan["mesh"][1] > 1
            for name, colour in (("links", LINKS), ("network", FAR)):
                if seconds := plan["bounds_seconds"].get(name):
                    axis.plot(plan["devices"], 1e3 * seconds, "^" if sharded else "o", color=colour, markersize=6)
    axis.set_yscale("log")
    axis.set_title("CTCD, 128 rows on A100: least time of a step, ms", loc="left", fontsize=10)
    finish(axis)


def finish(axis) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(COUNTS, [str(n) for n in COUNTS])
    axis.minorticks_off()
    axis.set_xlabel("devices")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
