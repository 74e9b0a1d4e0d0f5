# What one runs:
# make demo        installs the runtime and the package in .venv, and runs the examples through
#                  predict.sh: masks and pictures in demo/
# make check       formatting, linters, types, directions of imports and the Dockerfile, in a small
#                  environment of its own, .venv-check (no torch, Ray or browser)
# make test        check, then all but the slow tests, in .venv
# make test-slow   the slow tests
# make test-service   the tests of the service alone, without torch
# make container-test   builds the image and runs it as the challenge does (docker, or buildah as root)
# make fuzz        broken files into each reader, ten minutes each
#
# What one makes again:
# make model       models/float, from the published checkpoint
# make int8        models/int8: trains three stages on DATA (hours) and exports; goes on where it was
#                  stopped
# make results     docs/results.md and the tables of other pages, from the records of the benchmarks
# make lock        the pinned requirements, from the ranges and groups of pyproject.toml; what fits
#                  stays as it is, unless LOCK=--upgrade
# make clean       takes away what the targets above left, but for runs/
#
# PYTHON names the interpreter that environments are made with.

PYTHON ?= python3.11
BIN := .venv/bin
CHECK := .venv-check/bin
CHECKPOINT := checkpoints/lite_medsam.pth
DATA := ../shared/data

.PHONY: demo test test-slow test-service container-test fuzz
.PHONY: check check-format check-code check-types check-imports check-dockerfile
.PHONY: model int8 results lock clean

demo: .venv/runtime
	rm -rf demo
	PATH="$(CURDIR)/$(BIN):$$PATH" INPUT_DIR=examples/cases OUTPUT_DIR=demo/masks sh predict.sh \
		--overlay-dir demo/overlays --report demo/report.json
	@echo "Masks:    demo/masks/*.npz"
	@echo "Pictures: demo/overlays/*.png"
	@echo "Report:   demo/report.json"

# Two processes, a file in one of them: many tests wait for a process of their own or use one core.
# One that dies is not replaced: with `loadfile` the run would wait for ever.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --max-worker-restart 0

# Types are read again here, where torch, Ray and highdicom are installed.
test: check $(CHECKPOINT)
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE)

test-slow: .venv/tests $(CHECKPOINT)
	$(BIN)/python -m pytest -m slow

test-service: .venv/service
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) tests/qmedsam tests/packaging

container-test: .venv/runtime
	bash tests/container/run.sh

FUZZ := cases dicom nifti nrrd tiff labels
FUZZ_S := 600
fuzz: .venv/tests
	$(BIN)/pip install --quiet -r tests/fuzz/requirements.txt
	for each in $(FUZZ); do \
		$(BIN)/python -m tests.fuzz $$each runs/fuzz/$$each -max_total_time=$(FUZZ_S) \
			-timeout=30 -rss_limit_mb=4096 || exit 1; \
	done

check: check-format check-code check-types check-imports check-dockerfile

check-format: .venv-check/ready
	$(CHECK)/ruff format --check .

check-code: .venv-check/ready
	$(CHECK)/ruff check .

check-types: .venv-check/ready
	$(CHECK)/mypy

check-imports: .venv-check/ready
	PYTHONPATH=inference $(CHECK)/lint-imports

check-dockerfile: .venv-check/ready
	$(CHECK)/hadolint Dockerfile

model: .venv/tests $(CHECKPOINT)
	$(BIN)/python -m training.export --output-dir models/float

TRAIN = $(BIN)/python -m training.train --data $(DATA)/train --val $(DATA)/val --resume

int8: .venv/tests $(CHECKPOINT)
	$(TRAIN) --recipe training/recipes/deploy-1-encoder.toml --output-dir runs/train/deploy-1 \
		--teacher-cache runs/teacher
	$(TRAIN) --recipe training/recipes/deploy-2-decoder.toml --output-dir runs/train/deploy-2 \
		--init runs/train/deploy-1/best.pt
	$(TRAIN) --recipe training/recipes/deploy-3-whole.toml --output-dir runs/train/deploy-3 \
		--init runs/train/deploy-2/best.pt --teacher-cache runs/teacher
	$(BIN)/python -m training.export --checkpoint runs/train/deploy-3/best.pt \
		--output-dir models/int8

results: .venv/tests
	$(BIN)/python -m benchmarks results

# Each file after those whose versions it must keep to. Without what the named packages need: torch
# comes from PyPI or as a CPU build, and OpenVINO's telemetry is not wanted.
LOCK :=
COMPILE = $(CHECK)/uv pip compile --quiet --universal --python-version 3.11 --no-deps --no-annotate \
	--no-strip-extras --custom-compile-command "make lock" $(LOCK)
lock: .venv-check/ready
	$(CHECK)/pip install --quiet uv==0.13.9
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) pyproject.toml -c requirements.txt --generate-hashes -o requirements.lock
	$(COMPILE) pyproject.toml -c requirements.txt --group train -o training/requirements.txt
	$(COMPILE) pyproject.toml -c training/requirements.txt --group bench \
		-o benchmarks/requirements.txt
	$(COMPILE) pyproject.toml -c benchmarks/requirements.txt --group test \
		--extra io --extra web --extra cluster -o tests/requirements.txt
	$(COMPILE) -c tests/requirements.txt -c benchmarks/requirements.txt --group dev \
		-o .ci/requirements.txt
	$(COMPILE) --group fuzz -o tests/fuzz/requirements.txt

clean:
	rm -rf .venv .venv-check demo checkpoints build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find inference training benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

$(CHECKPOINT): | .venv/tests
	$(BIN)/python -m training.checkpoint fetch

.venv/runtime: requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

.venv/service: .venv/runtime tests/requirements.txt
	$(BIN)/pip install --quiet -r tests/requirements.txt
	touch $@

.venv/tests: .venv/service benchmarks/requirements.txt .ci/requirements.txt
	$(BIN)/pip install --quiet -r benchmarks/requirements.txt -r .ci/requirements.txt
	touch $@

# Nothing is compiled for a few short runs.
.venv-check/ready: .ci/requirements.txt
	$(PYTHON) -m venv .venv-check
	$(CHECK)/pip install --quiet --no-compile -r .ci/requirements.txt
	touch $@
