#!/bin/bash
# One shard of a folder for each task of a Slurm array; deploy/README.md says how to use it.
#
#   sbatch [--array=0-15 ...] deploy/slurm-array.sh CASES MASKS REPORTS [OPTION...]
#
# QMEDSAM_IMAGE=qmedsam.sif runs it in that Apptainer image, otherwise as the command qmedsam of the PATH.
#SBATCH --job-name=qmedsam
#SBATCH --array=0-15
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
# A minute before the time is up the run ends in order, with a report and exit status 143.
#SBATCH --signal=B:TERM@60
# After a failed node or a preemption Slurm starts the task again; it goes on where it was.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -eu

fail() {
    echo "slurm-array.sh: $*" >&2
    exit 2 # nothing could run, as qmedsam says it
}

needs() {
    command -v "$1" >/dev/null || fail "Command $1 is not in PATH: $2"
}

[ $# -ge 3 ] || fail "Expected the folders CASES MASKS REPORTS, got $# of them"
inputs=$1 outputs=$2 reports=$3
shift 3
[ -e "$inputs" ] || fail "Folder of the cases $inputs does not exist"
[ -d "$inputs" ] || fail "Cases $inputs must be a folder, got a file"
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || fail "It runs as an array alone: sbatch --array=0-15"
# shellcheck disable=SC2153 # Slurm sets it
first=$SLURM_ARRAY_TASK_MIN count=$SLURM_ARRAY_TASK_COUNT
[ "$SLURM_ARRAY_TASK_MAX" -eq $((first + count - 1)) ] ||
    fail "The array must be without gaps, or shards would be left out"
index=$((SLURM_ARRAY_TASK_ID - first))

mkdir -p "$outputs" "$reports"
report=$index-of-$count.json
set -- --shard "$index/$count" --threads "${SLURM_CPUS_PER_TASK:-0}" --resume "$@"
# The signal goes to this process alone, so that it becomes the run.
if [ -n "${QMEDSAM_IMAGE:-}" ]; then
    needs apptainer "load its module, or do without QMEDSAM_IMAGE"
    exec apptainer exec --containall \
        --bind "$(realpath "$inputs"):/workspace/inputs:ro" \
        --bind "$(realpath "$outputs"):/workspace/outputs" \
        --bind "$(realpath "$reports"):/mnt" \
        "$QMEDSAM_IMAGE" sh -c 'cd /workspace && exec sh predict.sh "$@"' predict.sh \
        --report "/mnt/$report" "$@"
fi
needs qmedsam "activate its environment before sbatch, or set QMEDSAM_IMAGE"
export OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=2 # as predict.sh has them
exec qmedsam -i "$inputs" -o "$outputs" --report "$reports/$report" "$@"
