#!/bin/bash
# The whole road as jobs of SLURM, each begun when the one before it has ended well: prepare -> train -> export -> glue ->
# report. Run it where you would run sbatch, in the project's folder.
#
#   source='text:my/*.txt.xz' tokenizer=vocab.txt config=configs/ctcd.py:small data=glue_data \
#       bash launch/slurm/pipeline.sh runs/mine
#
# A stage whose result is whole is gone through in seconds: after a failure, mend what the log says, cancel the jobs that
# wait for it, and run the same command again.
set -euo pipefail
out=${1:?the directory of the results}
: "${source:?a SOURCE of ctcd prepare}" "${config:?a config of ctcd train}" "${data:?the tasks of ctcd glue}"
tokenizer=${tokenizer:-} member=${member:-student} seeds=${seeds:-5}
prepare_jobs=${prepare_jobs:-4} glue_jobs=${glue_jobs:-4}
# More options of sbatch for these stages, e.g. train_options="--nodes 2 --partition gpu".
read -ra prepare_options <<<"${prepare_options:-}"
read -ra train_options <<<"${train_options:-}"
read -ra glue_options <<<"${glue_options:-}"
# More of ctcd prepare and ctcd train, e.g. recipe="--length 64" fields="--config.train.epochs=3".
read -ra recipe <<<"${recipe:-}"
read -ra fields <<<"${fields:-}"

here=launch/slurm
queue() { sbatch --parsable --kill-on-invalid-dep=yes "$@"; }

recipe+=(--source "$source" --out "$out/corpus")
[ -n "$tokenizer" ] && recipe+=(--tokenizer "$tokenizer")
shards=$(queue "${prepare_options[@]}" --array "0-$((prepare_jobs - 1))" $here/prepare.sbatch "${recipe[@]}")
corpus=$(queue "${prepare_options[@]}" --job-name ctcd-corpus --output %x-%j.log --dependency "afterok:$shards" \
    $here/prepare.sbatch "${recipe[@]}")
run=$(queue "${train_options[@]}" --dependency "afterok:$corpus" $here/train.sbatch --config "$config" \
    --workdir "$out/run" --config.data.corpus="$out/corpus" "${fields[@]}")
exported=$run
if [ ! -f "$out/export/$member/config.json" ]; then
    exported=$(queue "${prepare_options[@]}" --job-name ctcd-export --dependency "afterok:$run" $here/ctcd.sbatch export \
        --workdir "$out/run" --member "$member" --out "$out/export/$member")
fi
glue=$(queue "${glue_options[@]}" --dependency "afterok:$exported" --array "0-$((glue_jobs - 1))" $here/glue.sbatch \
    --model "$out/export/$member" --data "$data" --seeds "$seeds" --out "$out/glue")
report=$(queue "${prepare_options[@]}" --job-name ctcd-report --dependency "afterok:$glue" $here/ctcd.sbatch report \
    "$out" --out "$out/report.html")
echo "prepare $shards, then $corpus; train $run; export $exported; glue $glue; report $report: squeue --me"
