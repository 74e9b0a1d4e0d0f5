# make demo        examples through predict.sh: masks and pictures in demo/
# make test        installs what the tests need, then runs all checks and all but the slow tests
# make test-slow   the slow tests
# make container-test   builds the image and runs it as the challenge does (docker, or buildah as root)
# make fuzz        ten minutes of broken files into the reader
# make model       models/float again, from the published checkpoint
# make int8        models/int8 again: trains three stages on DATA (hours) and exports; goes on where
#                  it was stopped
# make results     docs/results.md and the tables of docs/scale.md again, from the records of the benchmarks

PYTHON ?= python3.11
BIN := .venv/bin
CHECKPOINT := checkpoints/lite_medsam.pth
DATA := ../shared/data

.PHONY: demo test test-slow container-test fuzz check model int8 results clean

demo: .venv/runtime
	rm -rf demo
	PATH="$(CURDIR)/$(BIN):$$PATH" INPUT_DIR=examples/cases OUTPUT_DIR=demo/masks sh predict.sh \
		--overlay-dir demo/overlays --report demo/report.json
	@echo "Masks:    demo/masks/*.npz"
	@echo "Pictures: demo/overlays/*.png"
	@echo "Report:   demo/report.json"

test: check $(CHECKPOINT)
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/tests $(CHECKPOINT)
	$(BIN)/python -m pytest -m slow

container-test: .venv/runtime
	bash tests/container/run.sh

FUZZ_S := 600
fuzz: .venv/tests
	$(BIN)/pip install --quiet -r tests/fuzz/requirements.txt
	mkdir -p runs/fuzz
	PYTHONPATH=. $(BIN)/python tests/fuzz/reader.py runs/fuzz tests/fuzz/corpus \
		-max_total_time=$(FUZZ_S) -artifact_prefix=runs/fuzz/

check: .venv/tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p qmedsam
	$(BIN)/hadolint Dockerfile

model: .venv/tests $(CHECKPOINT)
	$(BIN)/python -m training.export

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
	$(BIN)/python -m benchmarks.report.results
	$(BIN)/python -m benchmarks.report.cluster_tables

clean:
	rm -rf .venv demo checkpoints

$(CHECKPOINT): | .venv/tests
	$(BIN)/python -m training.checkpoint fetch

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/tests: .venv/runtime training/requirements.txt benchmarks/requirements.txt tests/requirements.txt
	$(BIN)/pip install --quiet -r tests/requirements.txt
	touch $@
