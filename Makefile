# make demo        examples through predict.sh: masks and pictures in demo/
# make test        installs what the tests need, then runs all checks and all but the slow tests
# make test-slow   the slow tests
# make model       models/float again, from the published checkpoint
# make results     docs/results.md again, from the records of the benchmarks

PYTHON ?= python3.11
BIN := .venv/bin
CHECKPOINT := checkpoints/lite_medsam.pth

.PHONY: demo test test-slow check model results clean

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

check: .venv/tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict inference

model: .venv/tests $(CHECKPOINT)
	$(BIN)/python -m training.export

results: .venv/tests
	$(BIN)/python -m benchmarks.results

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
