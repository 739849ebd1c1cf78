#!/usr/bin/env bash
#SBATCH --job-name=jaxsound-folds
#SBATCH --array=1-5              # the folds: 1-5 of ESC-50, 1-10 of UrbanSound8K; 1-10%4 runs four at a time
#SBATCH --ntasks=1               # a fold is one process, with every GPU of its task
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue                # after a pre-emption: the same command resumes from its checkpoint
#SBATCH --signal=TERM@120        # before the time limit: the process saves and leaves with status 75
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.log

# sbatch [--array=1-10] launch/slurm_folds.sh configs/urbansound8k_cnn.py /shared/runs/cnn [FLAG ...]
#
# A task of the array trains one fold; all of them share the work directory. The repository, its
# .venv, the work directory and the caches must lie where every node sees them. The first task
# prepares the data and the others wait for it. When all are done, gather them:
#
#   .venv/bin/python -m jaxsound.evaluation.crossval /shared/runs/cnn
set -euo pipefail

usage="usage: sbatch [--array=FIRST-LAST] launch/slurm_folds.sh CONFIG WORKDIR [FLAG ...]"
config=${1:?$usage}
workdir=${2:?$usage}
fold=${SLURM_ARRAY_TASK_ID:?$usage}
shift 2

# A config's variants stand after a colon, with commas between them.
case "$config" in
    *:*) config="$config,fold=$fold" ;;
    *) config="$config:fold=$fold" ;;
esac

# Slurm runs a copy of this script, so its place is the directory that sbatch was called in.
cd "${SLURM_SUBMIT_DIR:?$usage}"
status=0
srun --label .venv/bin/python -m jaxsound.main --config="$config" --workdir="$workdir" \
    --config.crossval=process "$@" || status=$?
# 75: told to stop before it was done, and saved. A cancelled job's script ends before this line.
if [ "$status" -eq 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$fold"
fi
exit "$status"
