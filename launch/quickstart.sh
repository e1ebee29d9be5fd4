#!/usr/bin/env bash
# The whole road on the documentation of Python's standard library: text in, a distilled student out, compared with every
# honest alternative. Every line is a command that you can run by itself; what was interrupted goes on where it was.
set -euo pipefail
out=${1:-runs/quickstart}
steps=1000

library=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
ctcd prepare --source "docstrings:$library" --out "$out/corpus" --length 64 --vocab-size 2048 --validation 0.3

# Models of a size that learns something of 240,000 tokens in a minute or two: `smoke`, with four layers and two.
pretrain() { # RUN CONFIG MEMBERS STEPS [FIELD=VALUE ...]
    local fields=(data.corpus="$out/corpus" data.batch_size=32 train.steps="$4" train.{log,eval,checkpoint}_every=250)
    [[ $3 == *teacher* ]] && fields+=(members.teacher.layers=4)
    [[ $3 == *student* ]] && fields+=(members.student.layers=2)
    fields+=("${@:5}")
    ctcd train --config "$2" --workdir "$out/$1" "${fields[@]/#/--config.}"
}
# The paper's Eq. 2 and 4 as printed: all weights 1, temperature 1.
as_printed() { # EDGES
    for ((edge = 0; edge < $1; edge++)); do
        echo edges["$edge"].{weight=1,temperature=1,tau_squared=False}
    done
}

# Each alone; the same student three times as long, which computes about as much as CTCD; both ways to distil.
pretrain teacher standalone:smoke-teacher teacher "$steps"
# Does this installation train as ours did? Another version of Python has other documentation, which is said.
ctcd verify "$out/teacher" --study "$(dirname "$0")/../results/studies/quickstart" || [ $? -eq 1 ]
pretrain student standalone:smoke-student student "$steps"
pretrain longer standalone:smoke-student student $((3 * steps))
pretrain oneway oneway:smoke student "$steps" members.teacher.init="run:$out/teacher#teacher" $(as_printed 1)
pretrain ctcd ctcd:smoke teacher,student "$steps" $(as_printed 2)

exports=()
for model in ctcd:student oneway:student student:student longer:student ctcd:teacher teacher:teacher; do
    IFS=: read -r run member <<<"$model"
    name=$run-$member
    [ "$run" = student ] && name=alone-student
    [ "$run" = teacher ] && name=alone-teacher
    [ "$run" = longer ] && name=alone-3x-student
    [ -d "$out/export/$name" ] || ctcd export --workdir "$out/$run" --member "$member" --out "$out/export/$name"
    exports+=(--model "$out/export/$name")
done

# Held-out text, and word order: was one pair of neighbouring words swapped? (Conneau et al. 2018) Without fine-tuning,
# which of the two sentences is the likelier; with it, is this sentence whole.
ctcd evaluate "${exports[@]}" --corpus "$out/corpus" --out "$out/evaluation"
python -m ctcd_jax.data.bigram_shift --corpus "$out/corpus" --out "$out/tasks/BShift"
ctcd probe "${exports[@]}" --data "$out/tasks/BShift" --out "$out/probe"
ctcd glue "${exports[@]}" --data "$out/tasks" --tasks bshift --seeds 2 --epochs 5 --learning-rate 1e-3 --out "$out/glue"
ctcd latency "${exports[@]}" --length 64 --out "$out/latency.json"
ctcd card "${exports[@]}" --from "$out/evaluation" --from "$out/probe" --from "$out/glue" --from "$out/latency.json"
ctcd report "$out" --out "$out/report.html"
echo "open $out/report.html"
