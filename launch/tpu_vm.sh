#!/bin/bash
# One run on every host of a Cloud TPU slice, whose processes find each other. The first time with `setup`, which copies the
# project there and installs it.
#
#   launch/tpu_vm.sh my-v5e us-west4-a setup
#   launch/tpu_vm.sh my-v5e us-west4-a train --config configs/ctcd.py:paper --workdir /mnt/ctcd/run \
#       --config.data.corpus=/mnt/ctcd/corpus
#
# WORKDIR must lie where all hosts see it (a bucket mounted with Cloud Storage FUSE, Filestore). Asked to stop (code 75),
# it goes on by itself; when the slice itself was taken away, get another one and give the same command.
set -uo pipefail
name=${1:?the name of the TPU VM} zone=${2:?its zone}
shift 2

everywhere() {
    gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"
}

if [ "${1:?train and its arguments, or setup}" = setup ]; then
    cd "$(dirname "$0")/.." || exit 2
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    tar -czf "$archive" ctcd_jax configs launch pyproject.toml README.md LICENSE || exit 2
    gcloud compute tpus tpu-vm scp "$archive" "$name:ctcd_jax.tar.gz" --zone "$zone" --worker=all || exit
    everywhere "mkdir -p ctcd_jax && tar -xzf ctcd_jax.tar.gz -C ctcd_jax && cd ctcd_jax && python3 -m venv .venv &&
        .venv/bin/pip install --quiet '.[tpu]'"
    exit
fi

command="cd ctcd_jax && CTCD_COORDINATOR=auto .venv/bin/ctcd$(printf ' %q' "$@")"
while everywhere "$command"; code=$?; [ "$code" -eq 75 ]; do
    echo "stopped on request; going on" >&2
done
exit "$code"
