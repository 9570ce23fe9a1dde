# Two commands do everything: `make demo` and `make test`. Both make the environment if it is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test experiments check format bench bench-gpu browser mutations reliability clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "mot-lab needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + "; set PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

env: $(READY)  ## make the environment (.venv)

demo: $(READY)  ## three arms, two seeds, on emoji scenes; prints where the report is
	$(BIN)/mot-lab study experiments/openmoji/transfusion.yaml

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

experiments: $(READY)  ## run every study of experiments/openmoji and refresh what is kept of them
	$(BIN)/python experiments/run_all.py

reliability: $(READY)  ## inject every fault that a run must survive, and keep the count in README.md
	$(BIN)/python tests/reliability/run.py

mutations: $(READY)  ## make deliberate errors and see that the tests notice
	$(BIN)/python tests/mutations.py

check: $(READY)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## time steps, layouts, data, preparing, processes, generation, FID, reports, tracking: benchmarks/results
	$(BIN)/python -m benchmarks.step_time
	$(BIN)/python -m benchmarks.layouts --compile
	$(BIN)/python -m benchmarks.mixed_steps experiments/openmoji/chameleon.yaml
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.preparing
	$(BIN)/python -m benchmarks.processes
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.fid
	PYTHONPATH=tests $(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.tracking experiments/results/transfusion/report.json

CHAMELEON := $(BIN)/python -m benchmarks.mixed_steps experiments/paper/chameleon

bench-gpu: $(READY)  ## on a GPU of 140 GB: blocks and steps of the paper's 443M, steps of Dense of 1.5B
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "bench-gpu needs a GPU, and torch sees none")'
	$(BIN)/python -m benchmarks.layouts --size 443M --compile
	$(CHAMELEON)_443m.yaml data.rows=6 model.compile=true 'arms=[dense, moe_4x, mot]'
	$(CHAMELEON)_speech_443m.yaml data.rows=6 model.compile=true 'arms=[dense, moe_4x, mot]'
	$(CHAMELEON)_1.5b.yaml data.rows=4 model.compile=true 'arms=[dense]'

browser:  ## install Chromium, for the test of MLflow's pages
	@if command -v chromium chromium-browser google-chrome chrome >/dev/null; then \
	  echo "there is a browser already: $$(command -v chromium chromium-browser google-chrome chrome | head -n 1)"; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -q && apt-get install -yq --no-install-recommends chromium; \
	else \
	  echo "install Chromium or Chrome so that it is on PATH (Debian, as root: apt-get install chromium);"; \
	  echo "without one the browser part of tests/test_mlflow_server.py is skipped"; \
	fi

clean:  ## remove runs and prepared data, keep the environment
	rm -rf runs .cache
