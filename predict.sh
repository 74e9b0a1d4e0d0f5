#!/bin/sh
# Segment every case of INPUT_DIR into OUTPUT_DIR; options go through to the command.
exec python -m inference -i "${INPUT_DIR:-/workspace/inputs}" -o "${OUTPUT_DIR:-/workspace/outputs}" "$@"
