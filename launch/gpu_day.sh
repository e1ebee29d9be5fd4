#!/usr/bin/env bash
# A day with a GPU in twenty minutes or forty: what only a GPU can tell, in order of value, on a bare machine without a network.
#
#   bash launch/gpu_wheels.sh .gpu TOKENIZER 'text:books/*.txt' glue   # where there is a network: wheels, corpus, tasks
#   bash launch/gpu_day.sh .gpu results/gpu                            # there, from the source tree
#   bash launch/gpu_day.sh .gpu results/gpu runs train                 # these parts alone
#   bash launch/gpu_day.sh --dry .gpu /tmp/dry                         # at `smoke` size, on a CPU, all parts but `speed`
#
# Each part has its own limit. It writes OUT/PART.txt as it goes, and its line in OUT/README.md when it ends: what cuts
# the day off at any time leaves what there was until then. MINUTES (20) is the limit of all together, too
# little for all: the longest, `speed` and `studies` (those of STUDIES), are best asked for by themselves.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

ctcd() { "$python" -m ctcd_jax "$@"; }
checks() { "$python" "$root/launch/gpu_checks.py" "$@"; }
pretrain() { # NAME CONFIG STEPS [FIELD=VALUE ...]
    local fields=(train.steps="$3" train.{eval,checkpoint}_every="$3" "${@:4}") text=$corpus
    [[ $2 != *smoke* ]] || text=$kit/corpus-smoke
    fields+=(data.corpus="$text")
    ctcd train --config "$2" --workdir "$work/$1" "${fields[@]/#/--config.}"
}

### The parts: names, limits in seconds, and what each does.
parts=(environment:60 runs:240 speed:540 profile:150 numerics:180 resume:180 train:240 finetuning:180 studies:590)

environment() { checks environment; }

# Does it run at all? Losses as on the CPU, a resumed run, both dtypes, both kinds of attention, a model that leaves.
runs() {
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_autotune_level=0" # to time all kernels takes a minute a run
    export JAX_DEFAULT_MATMUL_PRECISION=highest                  # else a GPU multiplies float32 in fewer bits
    pretrain gpu ctcd:smoke 20 train.dtype=float32 train.attention=xla train.log_every=1
    JAX_PLATFORMS=cpu pretrain cpu ctcd:smoke 20 train.dtype=float32 train.attention=xla train.log_every=1
    unset JAX_DEFAULT_MATMUL_PRECISION
    checks same "$work/gpu" "$work/cpu" --within 0.01
    ctcd train --workdir "$work/gpu" --change --config.train.steps=30
    ctcd export --workdir "$work/gpu" --member student --out "$work/export"
    pretrain community community:smoke 20 members.teacher.init="run:$work/gpu#teacher"
    for dtype in bfloat16 float16; do
        pretrain "$dtype" ctcd:smoke 20 train.dtype="$dtype"
        [ -n "$dry" ] || pretrain "$dtype-cudnn" ctcd:smoke 20 train.dtype="$dtype" train.attention=cudnn \
            members.{teacher,student}.attention_dropout=0
    done
}

# Against its parts, against PyTorch, by removal: the paper's size. Blocks that are measured when time is up are kept.
speed() {
    ctcd bench --suite gpu --out "$out/bench"
}

# Which kernels the step is made of, and of what part of the model each is.
profile() {
    export JAX_ENABLE_COMPILATION_CACHE=false # a program that is found there is not written out
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_dump_to=$work/hlo --xla_dump_hlo_module_re=jit_train_step"
    pretrain profile "ctcd:$large" 30 train.profile_steps=20,25 train.log_every=10
    checks kernels "$work/profile" --program "$work"/hlo/*after_optimizations.txt
}

# bfloat16 against float32; packed sentences do not see one another.
numerics() {
    checks segments
    for dtype in float32 bfloat16; do
        pretrain "curve-$dtype" "ctcd:$size" "$many" train.dtype="$dtype" train.log_every=$((many / 10))
    done
    checks same "$work/curve-bfloat16" "$work/curve-float32" --within 0.1
    checks rates "$work/curve-bfloat16" "$work/curve-float32"
}

# Stopped and gone on, it ends as undisturbed: to the byte where that is asked for. What that costs; how far others drift.
resume() {
    for asked in True False; do
        local fields=("ctcd:$size" "$few" train.deterministic="$asked" train.log_every=$((few / 10)))
        pretrain "whole-$asked" "${fields[@]}"
        # The subshell becomes the run, so that it gets the signal.
        (ctcd() { exec "$python" -m ctcd_jax "$@"; }; pretrain "stopped-$asked" "${fields[@]}") &
        until [ -s "$work/stopped-$asked/metrics.jsonl" ]; do
            kill -0 $! || break # it has failed, which `wait` will say
            sleep 0.1
        done
        kill -TERM $! || true
        local code=0
        wait $! || code=$?
        if [ "$code" -ne 75 ]; then
            echo "it was not stopped: code $code"
            return 1
        fi
        pretrain "stopped-$asked" "${fields[@]}"
    done
    checks rates "$work/whole-False" "$work/whole-True"
    checks same "$work/whole-False" "$work/stopped-False" --within 0.5
    checks same "$work/whole-True" "$work/stopped-True"
}

# A real, short training: CTCD, one-way and alone, each for equal steps, and what they score on held-out text.
train() {
    pretrain teacher "standalone:$size-teacher" "$long"
    pretrain alone "standalone:$size-student" "$long"
    pretrain oneway "oneway:$size" "$long" members.teacher.init="run:$work/teacher#teacher"
    pretrain ctcd "ctcd:$size" "$long"
    local models=()
    for source in teacher:teacher alone:student oneway:student ctcd:student ctcd:teacher; do
        models+=(--model "$work/${source/:/#}")
    done
    ctcd evaluate "${models[@]}" --corpus "$corpus" --out "$out/evaluation"
    checks rates "$work"/{ctcd,teacher,alone,oneway}
}

# Fine-tuning and inference in PyTorch.
finetuning() {
    local models=()
    for source in alone:student ctcd:student ctcd:teacher; do # of the part before
        local place=$work/${source/:/-}
        ctcd export --workdir "$trained/${source%:*}" --member "${source#*:}" --out "$place"
        models+=(--model "$place")
    done
    ctcd glue "${models[@]}" --data "$kit/glue" --tasks "$tasks" --seeds 1 --epochs 1 --out "$out/glue"
    ctcd latency "${models[@]}" --length "$length" --batch-size 1,32 --out "$out/latency.json"
}

# Whole studies, several runs at once. What this repository has of them is not run again; stopped, they keep what is
# finished, for `--finished`.
studies() {
    local texts=() known=()
    for file in "$kit"/text/*; do
        name=$(basename "$file")
        texts+=(--text "${name%%.*}=text:$file")
    done
    for folder in "$root"/results/studies/*-tiny; do known+=(--finished "$folder"); done
    for study in $asked; do
        ctcd study "$study:$study_size" --out "$out/studies" --jobs "$jobs" "${known[@]}" "${texts[@]}" \
            --config.train.log_every=150 --config.train.checkpoint_every=1500
    done
}

### One part after another, each in a process that can be ended.
if [ "${1:-}" = --part ]; then # PART, with all that is exported below
    echo "\$ bash launch/gpu_day.sh ... $2"
    trained=$work/train work=$work/$2
    rm -rf "$work" # of an earlier day
    "$2"
    exit
fi
dry=
if [ "${1:-}" = --dry ]; then
    dry=1
    shift
fi
kit=$(cd "$1" && pwd)
mkdir -p "$2/.work"
out=$(cd "$2" && pwd)
work=$out/.work only=" ${*:3} "
corpus=$kit/corpus length=128 large=paper size=small long=1000 many=300 few=100 tasks=cola,rte
study_size=tiny jobs=8 asked=${STUDIES:-warmup rate table1 data figure6 figure5 objective schedule}
if [ -n "$dry" ]; then
    corpus=$kit/corpus-smoke length=64 large=smoke size=smoke long=40 many=40 few=40 tasks=rte
    study_size=smoke jobs=2 asked=figure4
fi
export dry kit out work corpus length large size long many few tasks study_size jobs asked
if compgen -G "$kit/wheels/*.whl" >/dev/null && [ -z "$dry" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$work/site" "$kit"/wheels/*.whl
fi
export PYTHONPATH="$work/site:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
deadline=$((60 * ${MINUTES:-20}))
for name in $only; do
    if [[ " ${parts[*]}" != *" $name:"* ]]; then
        echo "gpu_day.sh: there is no part '$name'; there are ${parts[*]%:*}" >&2
        exit 2
    fi
done

table=$out/README.md
if [ ! -s "$table" ]; then
    printf '# What ran on a GPU\n\n`launch/gpu_day.sh`, part by part; the output of each stands in PART.txt.\n\n| part | result | seconds | limit |\n|---|---|---|---|\n' >"$table"
fi
worst=0
for part in "${parts[@]}"; do
    name=${part%:*} limit=${part#*:}
    [ -z "${only// /}" ] || [[ $only == *" $name "* ]] || continue
    left=$((deadline - SECONDS)) begun=$SECONDS code=0
    ((left < limit)) && limit=$left
    if [ -n "$dry" ] && [ "$name" = speed ]; then
        result="left out: it needs a GPU"
    elif [ "$name" = studies ] && ! compgen -G "$kit/text/*" >/dev/null; then
        result="left out: the kit has no texts"
    elif ((limit < 10)); then
        result="left out: no time was left"
    else
        # SIGINT: what is being measured or trained keeps what it has.
        timeout --signal=INT --kill-after=20 "$limit" bash "$0" --part "$name" >"$out/$name.txt" 2>&1 || code=$?
        case $code in
            0) result=done ;;
            124 | 137) result="cut off" ;;
            *) result="FAILED ($code)" worst=1 ;;
        esac
    fi
    echo "| $name | $result | $((SECONDS - begun)) | $limit |" | tee -a "$table"
done
exit $worst
