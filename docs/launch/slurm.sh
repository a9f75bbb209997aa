#!/usr/bin/env bash
# A config on the GPUs of several nodes, under Slurm:
#
#   sbatch docs/launch/slurm.sh --config=configs/mtpret.py:/data/xray \
#     --workdir=/shared/runs/mtpret --data_dir=/shared/tensorflow_datasets
#
# from the repository's folder. Change the numbers below, or give them to sbatch. Before
# the time is up, or when Slurm takes the nodes away, the run is saved and queued again.
#
#SBATCH --job-name=mtpret
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
# One process for each GPU: JAX gives each the GPU of its number on the node. Every
# process must see all GPUs of its node, so do not use --gpus-per-task.
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# Seconds before the end at which to save: those of a validation and a save, and more.
#SBATCH --signal=TERM@300
#SBATCH --requeue
set -u

# srun does not take this over from sbatch, since Slurm 22.05.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

# A SIGTERM is for the processes; this script waits and sees how they end.
trap ':' TERM
# One that has saved must not end the others, which may not have.
srun --kill-on-bad-exit=0 "${PYTHON:-.venv/bin/python}" -m mtpret_jax.main \
  --distributed "$@"
code=$?
if [[ "$code" -eq 75 ]]; then  # Stopped and saved.
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
