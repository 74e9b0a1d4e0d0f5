#!/bin/sh
# Segment every case of INPUT_DIR into OUTPUT_DIR; options go through to the command. The package lies
# beside this file, wherever it is called from, and need not be installed.
# NumPy's linear algebra is not used, and its threads would wait for work on all cores. Few heaps
# of freed memory keep the peak down, by 20 MB; with one alone, compiling would take 0.1 s longer.
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}" MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
here="$(dirname -- "$(readlink -f -- "$0")")"
export PYTHONPATH="$here/inference${PYTHONPATH:+:$PYTHONPATH}"
exec python -P -m qmedsam -i "${INPUT_DIR:-/workspace/inputs}" -o "${OUTPUT_DIR:-/workspace/outputs}" "$@"
