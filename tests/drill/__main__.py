"""`make drill`: what a cluster does to runs, done to them on purpose and many times; the outcome goes to results/drill.

    python -m tests.drill --out results/drill              # about 20 minutes on 2 cores
    python -m tests.drill --out /tmp/drill --share 0.1     # a tenth of the times
    python -m tests.drill --out /tmp/drill --only killed

A run, wherever it was struck, must end with the metrics and the parameters of an undisturbed one, byte for byte
(float32, CPU, as many devices), with every step counted once; what is damaged must be named. `--seed` draws moments.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import jax

from ctcd_jax import __version__
from tests.drill.runs import EVERY, STEPS, Count, Drill
from tests.drill.troubles import TROUBLES

TEXT = """# The drill

`python -m tests.drill --share {share:g} --seed {seed}`: CTCD of two small BERTs, {steps} steps, saved every {every}, on
{cores} CPU cores, JAX {jax}, version {version}, {minutes:.0f} minutes. **{failed} of {tried} failed.** Where nothing
else is said, each ended with the bytes of `metrics.jsonl` and the bits of the parameters of an undisturbed run. Where a
command "was done before", it was not struck.

| trouble | times | failed | of them |
|---|---|---|---|
{rows}
{failures}"""


def summary(counts: dict[str, Count], seconds: float, options: argparse.Namespace) -> str:
    """Returns the table of what was done and what came of it."""
    rows = []
    for name, count in counts.items():
        meaning = (TROUBLES[name].__doc__ or name).partition(":")[0].rstrip(".")
        seen = ", ".join(f"{what}: {times}" for what, times in sorted(count.seen.items()))
        rows.append(f"| {meaning} | {count.tried} | {len(count.failed)} | {seen} |")
    failures = [f"* {name}: {text}" for name, count in counts.items() for text in count.failed]
    return TEXT.format(
        share=options.share, seed=options.seed, steps=STEPS, every=EVERY, cores=os.cpu_count(), jax=jax.__version__,
        version=__version__, minutes=seconds / 60, failed=len(failures), rows="\n".join(rows),
        tried=sum(count.tried for count in counts.values()), failures="".join(f"\n{line}" for line in failures),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--share", type=float, default=1.0, help="of the times of each kind (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TROUBLES, action="append")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun, counts = time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="ctcd-drill-") as place:
        drill = Drill(Path(place) / "drill", options.share, options.seed)
        for name in options.only or TROUBLES:
            counts[name] = Count()
            TROUBLES[name](drill, counts[name])
            print(f"{name}: {counts[name].tried} times, {len(counts[name].failed)} failed", flush=True)
            (options.out / "README.md").write_text(summary(counts, time.perf_counter() - begun, options))
    return int(any(count.failed for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
