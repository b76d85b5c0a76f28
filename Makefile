PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint bench

demo: $(INSTALLED)  ## train on real digits (CPU, about a minute), then print what the network does
	$(BIN)/python examples/demo.py

test: $(INSTALLED)  ## the suite, but for what takes long or needs a browser or a SLURM
	$(BIN)/python -m pytest -q

test-slow: $(INSTALLED)  ## what takes long: 10,000 steps, failing processes, long sequences, a full disk
	$(BIN)/python -m pytest -q -m slow

lint: $(INSTALLED)  ## ruff, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## what things cost here; writes benchmarks/results and the tables of README.md
	$(BIN)/python benchmarks/recurrence.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/fixed_points.py
	$(BIN)/python benchmarks/callbacks.py
	$(BIN)/python benchmarks/readme.py

$(INSTALLED): pyproject.toml setup.py constraints.txt lightning_alrnn/nn/_scan.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
