"""Draws figure.png from models.csv and study.json beside it: how much CTCD changes the loss, by the amount of text."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PLACE = Path(__file__).parent
PANELS = {"held-out": "held-out text of the same novels", "wiki": "Wikipedia, of which none was trained on"}
COLOURS = {"teacher": "#b35900", "student": "#0067b1"}
TOP = 0.75  # nats; what lies above is written there


def differences() -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """Returns {(text, member): {share: {seed: nats}}}, CTCD's loss less that of the member alone, last step."""
    losses: dict[tuple, float] = {}
    for row in csv.DictReader((PLACE / "models.csv").open()):
        if row["at"] == "last":
            losses[row["on"], row["arm"], row["member"], int(row["seed"])] = float(row["loss"])
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for (text, arm, member, seed), loss in losses.items():
        method, _, share = arm.rpartition("-")
        alone = losses.get((text, f"{member}-{share}", member, seed))
        if method == "ctcd" and alone is not None:
            found[text, member][int(share)][seed] = loss - alone
    return found


def main() -> None:
    study = json.loads((PLACE / "study.json").read_text())
    corpora, seen = study["corpora"], study["arms"]["ctcd-1"]["tokens"]
    found = differences()
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), sharey=True, layout="constrained")
    for panel, (text, title) in zip(axes, PANELS.items(), strict=True):
        panel.axhline(0, color="#555555", linewidth=1)
        for side, (member, colour) in zip((0.94, 1.06), COLOURS.items(), strict=True):
            shares = sorted(found[text, member], reverse=True)
            tokens = [corpora[f"text-{share}"]["train_tokens"] for share in shares]
            middles = [median(found[text, member][share].values()) for share in shares]
            panel.plot(tokens, middles, color=colour, linewidth=2, label=f"{member}, median of 5 seeds")
            for at, share in zip(tokens, shares, strict=True):
                for nats in found[text, member][share].values():
                    panel.plot(side * at, min(nats, TOP), "o" if nats < TOP else "^", color=colour, markersize=4)
                    if nats > TOP:
                        panel.annotate(f"+{nats:.1f}", (side * at, TOP), color=colour, fontsize=8, ha="right",
                                       xytext=(-5, -3), textcoords="offset points")  # fmt: skip
        panel.set_xscale("log")
        panel.set_xticks(tokens, [f"{each / 1e3:,.0f} k\n{seen / each:,.0f} epochs" for each in tokens])
        panel.minorticks_off()
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("tokens of text, epochs in 1,500 steps")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss with CTCD - alone, nats\n(below 0: CTCD is better)")
    axes[0].legend(frameon=False, fontsize=9, loc="center left")
    figure.savefig(PLACE / "figure.png", dpi=130)


if __name__ == "__main__":
    main()
