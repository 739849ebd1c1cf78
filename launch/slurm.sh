#!/usr/bin/env bash
#SBATCH --job-name=jaxsound
#SBATCH --nodes=1                # one node with many GPUs; 2 or more for several nodes
#SBATCH --ntasks-per-node=4      # one process per GPU: as many as --gpus-per-node
#SBATCH --gpus-per-node=4        # not --gpus-per-task: JAX picks GPU SLURM_LOCALID of those it sees
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue                # after a pre-emption: the same command resumes from its checkpoint
#SBATCH --signal=TERM@120        # before the time limit: the processes save and leave with status 75
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log

# sbatch launch/slurm.sh configs/esc50_transformer.py /shared/runs/esc50_transformer [FLAG ...]
# sbatch --nodes=2 launch/slurm.sh ...
#
# The repository, its .venv, the work directory and the caches must lie where every node sees them.
# jax.distributed reads the number of processes, their places and the coordinator from Slurm.
set -euo pipefail

usage="usage: sbatch [--nodes=N] launch/slurm.sh CONFIG WORKDIR [FLAG ...]"
config=${1:?$usage}
workdir=${2:?$usage}
shift 2

# Slurm runs a copy of this script, so its place is the directory that sbatch was called in.
cd "${SLURM_SUBMIT_DIR:?$usage}"
status=0
srun --kill-on-bad-exit=1 --label \
    .venv/bin/python -m jaxsound.main --config="$config" --workdir="$workdir" "$@" || status=$?
# 75: told to stop before it was done, and saved. A cancelled job's script ends before this line.
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
