# Every target sets up what it needs: a virtual environment in .venv with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup demo test test-all test-slow test-faults lint bench bench-gpu chaos clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "manypaths needs Python 3.11 or later, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --constraint constraints.txt --editable '.[dev]'
	@# as pip does and uv does not: every process of a sweep starts twice as fast
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

demo: setup
	@$(BIN)/manypaths run examples/quickstart.toml --out runs/quickstart
	@$(BIN)/manypaths report runs/quickstart

test: setup
	$(BIN)/python -m pytest

test-all: test test-slow test-faults

test-slow: setup
	$(BIN)/python -m pytest -m 'slow and not faults'

# real clusters, kills, storage that fails
test-faults: setup
	$(BIN)/python -m pytest -m faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# make bench runs all but costs and headline; make bench methods runs that one
BENCHMARKS := engine methods evaluations startup sweep memory calibration results analysis scale storage costs headline
bench: setup
	$(BIN)/python -m benchmarks $(filter $(BENCHMARKS),$(MAKECMDGOALS))
ifneq (,$(filter bench,$(MAKECMDGOALS)))
.PHONY: $(BENCHMARKS)
$(BENCHMARKS): ; @:
endif

# needs a GPU
bench-gpu: setup
	$(BIN)/python -m benchmarks gpu

# a sweep on three nodes under fifty kills; half an hour
chaos: setup
	$(BIN)/python -m benchmarks chaos

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
