#!/usr/bin/env bash
# Collects what a bare GPU machine without a network lacks for gpu_day.sh: wheels, a small corpus, a few of GLUE's tasks.
#
#   PATH=.venv/bin:$PATH bash launch/gpu_wheels.sh .gpu tokenizer-or-model 'text:books/*.txt text:wiki/*.txt' glue \
#       books=a.txt.xz novels=b.txt.xz wiki=c.txt.xz passages=d.txt.xz
#
# Arguments: the folder to fill, the tokenizer (a model's directory, or a folder with vocab.txt), SPECs of text with spaces
# between them, the folder of GLUE's TSV files, and for the part `studies` their texts, NAME=FILE. PYTHON_VERSION is the other machine's; its JAX, PyTorch and Hugging Face
# libraries are taken as they are there. Everything together stays under 60 MB, or this fails.
set -euo pipefail
kit=$1 tokenizer=$2 text=$3 glue=$4
most=60000000

# Those of our requirements that images with JAX and PyTorch do not bring; and portpicker, which grain imports.
packages=(ml-collections grain array-record tensorboardX sentencex zstandard portpicker)
platforms=(--platform={manylinux_2_28,manylinux_2_24,manylinux_2_17,manylinux2014}_x86_64)
mkdir -p "$kit/wheels" "$kit/glue"
pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "${PYTHON_VERSION:-3.12}" \
    "${platforms[@]}" --dest "$kit/wheels" "${packages[@]}"

read -ra specs <<<"$text"
prepare() { # NAME OPTION ...
    ctcd prepare "${specs[@]/#/--source=}" --tokenizer "$tokenizer" --validation-by sentences --out "$kit/$1" "${@:2}"
}
prepare corpus --length 128 --every "${EVERY:-1}"
prepare corpus-smoke --length 64 --every $((20 * ${EVERY:-1})) # as long as `smoke` models can read
# The smallest tasks, which fine-tuning is timed on.
for task in CoLA RTE; do
    mkdir -p "$kit/glue/$task"
    cp "$glue/$task/train.tsv" "$glue/$task/dev.tsv" "$kit/glue/$task"
done

mkdir -p "$kit/text"
for named in "${@:5}"; do # as it is, packed or not: `prepare` reads both
    file=${named#*=} base=${named##*/}
    cp "$file" "$kit/text/${named%%=*}.${base#*.}"
done

bytes=$(du --summarize --apparent-size --block-size=1 "$kit" | cut -f1)
echo "$kit: $bytes bytes"
if ((bytes > most)); then
    echo "$kit: more than $most bytes; raise EVERY, one sentence in so many is kept" >&2
    exit 2
fi
