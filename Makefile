PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint bench claims gpu screenshots

demo: $(INSTALLED)  ## sweeps over P on three tasks, their verdicts, and a report of one network (5 to 15 minutes on 2 cores)
	$(BIN)/python examples/demo.py

test: $(INSTALLED)  ## the suite, but for what takes long or needs a browser or a SLURM
	$(BIN)/python -m pytest -q -n auto --dist loadfile

test-slow: $(INSTALLED)  ## what takes long: 10,000 steps, failing processes, long sequences, a full disk
	$(BIN)/python -m pytest -q -m slow

lint: $(INSTALLED)  ## ruff, formatting, types, and that the docs build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(INSTALLED)  ## what things cost here; writes benchmarks/results and the tables of the docs
	$(BIN)/python benchmarks/recurrence.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/sweeps.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/bounded.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/fixed_points.py
	$(BIN)/python benchmarks/callbacks.py
	$(BIN)/python benchmarks/readme.py

claims: $(INSTALLED)  ## the claims of the paper, tested by sweeps; DATA is the folder of the real data
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/claims.py $(if $(DATA),--data_dir $(DATA))

gpu:  ## checks and timings on this machine's GPU, 8 minutes; installs nothing: PYTHON is one with PyTorch for CUDA
	PYTHONPATH=. $(firstword $(wildcard $(BIN)/python) $(PYTHON)) benchmarks/gpu.py

screenshots: $(INSTALLED)  ## the pictures of README and docs, from real runs (needs Chromium)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	$(BIN)/python docs/screenshots.py

$(INSTALLED): pyproject.toml setup.py constraints.txt lightning_alrnn/nn/scan/_kernel.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
