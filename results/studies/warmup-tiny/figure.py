"""Draws figure.png from models.csv beside it: CTCD less the member alone, by how long CTCD is warmed up."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PLACE = Path(__file__).parent
PANELS = {"held-out": "held-out text of the same novels", "wiki": "Wikipedia, of which none was trained on"}
COLOURS = {"teacher": "#b35900", "student": "#0067b1"}
ARMS = {"ctcd": "5 % of the steps", "warm-ctcd": "20 %"}
TOP = 0.4  # nats; what lies above is written there


def main() -> None:
    rows = [row for row in csv.DictReader((PLACE / "models.csv").open()) if row["at"] == "last"]
    losses = {(row["on"], row["arm"], row["member"], row["seed"]): float(row["loss"]) for row in rows}
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True, layout="constrained")
    for panel, (text, title) in zip(axes, PANELS.items(), strict=True):
        panel.axhline(0, color="#555555", linewidth=1)
        for place, arm in enumerate(ARMS):
            for side, (member, colour) in zip((-0.12, 0.12), COLOURS.items(), strict=True):
                of_arm = {seed: loss for (on, a, m, seed), loss in losses.items() if (on, a, m) == (text, arm, member)}
                found = sorted(loss - losses[text, member, member, seed] for seed, loss in of_arm.items())
                for rank, nats in enumerate(found):
                    at = place + side + 0.02 * (rank - (len(found) - 1) / 2)
                    shown = panel.plot(at, min(nats, TOP), "o" if nats < TOP else "^", color=colour, markersize=5)
                    if place == rank == 0:
                        shown[0].set_label(f"{member}, a seed each")
                    if nats > TOP:
                        panel.annotate(f"+{nats:.1f}", (at, TOP), color=colour, fontsize=8, ha="left",
                                       xytext=(6, -3), textcoords="offset points")  # fmt: skip
        panel.set_xlim(-0.5, 1.5)
        panel.set_xticks(range(len(ARMS)), ARMS.values())
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("CTCD's warm-up; alone always 5 %")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss with CTCD - alone, nats\n(below 0: CTCD is better)")
    axes[0].legend(frameon=False, fontsize=9, loc="upper right")
    figure.savefig(PLACE / "figure.png", dpi=130)


if __name__ == "__main__":
    main()
