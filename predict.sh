#!/bin/sh
# Segment every case of INPUT_DIR into OUTPUT_DIR; options go through to the command.
# In a checkout the virtual environment that the Makefile makes is used; the image has none.
PATH="$PWD/.venv/bin:$PATH"
exec python -m inference -i "${INPUT_DIR:-/workspace/inputs}" -o "${OUTPUT_DIR:-/workspace/outputs}" "$@"
