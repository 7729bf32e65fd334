# make demo | test | lint | bench | docs | site | notebooks | clean. Each makes the virtual environment first when it is missing or out of date.

PYTHON ?= python3
VENV ?= .venv
# Processes that share the tests; each keeps to one thread.
WORKERS ?= logical
TEST_ARGS ?=
BENCH_ARGS ?=

PY := $(VENV)/bin/python
READY := $(VENV)/.installed

.PHONY: demo test lint bench docs site notebooks venv clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(PY) scripts/adc_sweep.py

test: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal -p no:benchmark $(TEST_ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

bench: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m benchmarks.run $(BENCH_ARGS)

docs: $(READY)
	$(PY) scripts/write_schema.py

# Every notebook from top to bottom, two at a time; each has 5 minutes. The pairs are one text: `jupytext --sync` after an edit.
notebooks: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest --nbmake --nbmake-timeout=300 -n 2 -p no:benchmark notebooks

site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'imcsim needs Python 3.11 or newer, this is ' + sys.version.split()[0] + '; try make PYTHON=python3.12')"
	@echo "making $(VENV): once, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps onnx2torch  # without torchvision
	touch $@

# The environment stays; remove $(VENV) by hand to have it made anew.
clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find imcsim tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
