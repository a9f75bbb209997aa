#!/usr/bin/env bash
# A config on all hosts of a TPU pod slice, from your own machine:
#
#   TPU=my-slice ZONE=us-central2-b docs/launch/tpu_pod.sh \
#     --config=configs/mtpret.py:/shared/xray --workdir=/shared/runs/mtpret \
#     --data_dir=/shared/tensorflow_datasets
#
# Every host has the repository, with its .venv, in ~/mtpret_jax (or $FOLDER) and sees
# /shared. The same call again goes on where the last one stopped. To save and stop:
#
#   gcloud compute tpus tpu-vm ssh my-slice --zone=us-central2-b --worker=0 \
#     --command='pkill -TERM -f "^.venv/bin/python -m mtpret_jax.main"'
set -euo pipefail

: "${TPU:?the name of the slice, as gcloud knows it}"
: "${ZONE:?the zone of the slice}"

# Quoted for the hosts' shells.
folder="$(printf '%q' "${FOLDER:-mtpret_jax}")"
words="$(printf ' %q' "$@")"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="\
cd $folder && \
exec .venv/bin/python -m mtpret_jax.main --distributed$words"
