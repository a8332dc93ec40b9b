# Everything runs in .venv, which is made once and again when pyproject.toml or constraints.txt change.
# CONSTRAINTS=FILE takes other pins (CONSTRAINTS= none); VENV_FLAGS=--system-site-packages takes the torch
# that is there already; pip's own variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL) choose where torch comes from.

.DEFAULT_GOAL := help
.PHONY: help setup demo web zoo prepare synth train eval test test-slow test-gpu test-kernels gpu-table lint format bench wheel clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CONSTRAINTS ?= constraints.txt
VENV_FLAGS ?=
ARGS ?=
CONFIG ?= configs/paper.yaml
SET ?=
SMALL ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install into .venv; say which torch build came and whether it sees a GPU
	@$(BIN)/python -c 'import torch; \
		build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU"; \
		mps = torch.backends.mps.is_available(); \
		gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "Apple MPS" if mps else "none seen"; \
		print(f"torch {torch.__version__} ({build} build), GPU: {gpu}")'

$(STAMP): pyproject.toml $(wildcard $(CONSTRAINTS))
	@test -n "$(PYTHON)" || { echo "zssr-gan needs Python 3.11 or newer: install it, or name it with PYTHON=..." >&2; exit 1; }
	@echo "Installing into $(VENV), once; torch is large, so this takes a minute or more." >&2
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation -e '.[dev,demo,eval,bench,video,web]'
	@touch $@

demo: setup ## run everything on pictures that scikit-image ships; the last line names the report to open
	@$(BIN)/python -m pipelines.demo

prepare: setup ## split and check the images of a run: make prepare [CONFIG=configs/paper.yaml] [SET="--set a.b=1"] [SMALL=1]
	@$(BIN)/python -m pipelines.prepare --config "$(CONFIG)" $(if $(SMALL),--small) $(SET)

synth: setup ## synthetic HR images of a prepared run: make synth [CONFIG=...] [SET=...] [ARGS="--device cuda"]
	@$(BIN)/python -m pipelines.synth --config "$(CONFIG)" $(if $(SMALL),--small) $(SET) $(ARGS)

train: setup ## train the generator of a run: make train [CONFIG=...] [SET=...] [ARGS="--device cuda"]
	@$(BIN)/python -m pipelines.train --config "$(CONFIG)" $(if $(SMALL),--small) $(SET) $(ARGS)

eval: setup ## tables, figures and the report (report/index.html) of a trained run: make eval [CONFIG=...] [SET=...] [ARGS="--only table1,truth"]
	@$(BIN)/python -m pipelines.evaluate --config "$(CONFIG)" $(if $(SMALL),--small) $(SET) $(ARGS)

web: setup ## open the page on a case of faces and a clip, as a tour; it stops with Ctrl-C: make web [ARGS="--port 9000"]
	@$(BIN)/python -m pipelines.tour $(ARGS)

zoo: setup ## train the systems of the literature small, and compare them: make zoo [DATA=folder] [ONLY=srcnn,dcgan] [ARGS=...]
	@$(BIN)/python -m pipelines.zoo $(if $(DATA),--data "$(DATA)") $(if $(ONLY),--only "$(ONLY)") $(ARGS)

test: setup ## run the tests on all cores, a file in one process (a few minutes)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## run the tests that take longer, such as an installation from nothing
	$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

test-gpu: setup ## run the tests of the CUDA path: on a GPU, or, where torch sees none, with a stand-in that g++ compiles
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS) \
		$(shell $(BIN)/python -c 'import torch; print("" if torch.cuda.is_available() else "-p tests.gpu.standin")' 2>/dev/null)

test-kernels: setup ## run the checks of the Triton kernels without a GPU; installs Triton (188 MB)
	$(BIN)/python -m pip install -q triton==3.6.0
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -m slow tests/ops $(ARGS)
	$(BIN)/python -m pytest -m slow tests/ops/test_fleet_kernels.py $(ARGS)

gpu-table: setup ## what a GPU shows in five minutes: right, repeatable, waits, speed (see docs/gpu.md)
	$(BIN)/python benchmarks/gpu_table.py $(ARGS)

lint: setup ## ruff (rules and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff sort imports, mend what it can, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure on your data: make bench DATA=folder [ARGS=...] (see benchmarks/README.md)
	@test -n "$(DATA)" || { echo "name the folder of the images: make bench DATA=folder" >&2; exit 2; }
	$(BIN)/python -m benchmarks "$(DATA)" $(ARGS)

wheel: setup ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv, build products, caches and the demo's output; other runs stay
	rm -rf $(VENV) build dist runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
