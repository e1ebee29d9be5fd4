#!/usr/bin/env bash
# The whole road on this machine's own docstrings: text in, a distilled student out, fine-tuned and reported.
# Every line is a command that you can run by itself; a run that was interrupted goes on where it was.
set -euo pipefail
out=${1:-runs/quickstart}

ctcd prepare --source docstrings --out "$out/corpus" --length 64 --vocab-size 8192 --validation 0.05

# CTCD, and the same student alone for the same number of steps: the same data, masks and first weights.
ctcd train --config configs/ctcd.py:tiny --workdir "$out/ctcd" \
    --config.data.corpus="$out/corpus" --config.train.steps=150 --config.train.eval_every=75
ctcd train --config configs/standalone.py:tiny-student --workdir "$out/alone" \
    --config.data.corpus="$out/corpus" --config.train.steps=150 --config.train.eval_every=75

for model in ctcd-teacher:ctcd:teacher ctcd-student:ctcd:student alone-student:alone:student; do
    IFS=: read -r name run member <<<"$model"
    [ -d "$out/export/$name" ] || ctcd export --workdir "$out/$run" --member "$member" --out "$out/export/$name"
done

# A labelled task made from held-out sentences: was one pair of neighbouring words swapped? (Conneau et al. 2018)
python -m ctcd_jax.data.bigram_shift --corpus "$out/corpus" --out "$out/tasks/BShift"
ctcd glue --model "$out/export/ctcd-student" --model "$out/export/alone-student" \
    --data "$out/tasks" --tasks bshift --seeds 1 --out "$out/glue"
ctcd latency --model "$out/export/ctcd-teacher" --model "$out/export/ctcd-student" \
    --model "$out/export/alone-student" --length 64 --out "$out/latency.json"
ctcd card --model "$out/export/ctcd-teacher" --model "$out/export/ctcd-student" \
    --model "$out/export/alone-student" --from "$out/glue" --from "$out/latency.json"
ctcd report "$out" --out "$out/report.html"

echo
cat "$out/glue/table.md"
echo
echo "report: $out/report.html"
