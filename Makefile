# Two commands: `make study [STUDY=name]` and `make test`. Everything they need goes into .venv (`make install` alone).
SHELL  := /bin/bash
PYTHON ?= python3
STUDY  ?= digits
CORES  ?= all
BIN    := .venv/bin
# One thread per process: Snakemake and pytest-xdist bring the parallelism, and one-thread results reproduce exactly.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: install study interim test check figures lint clean
.DELETE_ON_ERROR:

# One pip command for all extras: a second one could replace torch (see pyproject.toml).
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "robustgap needs Python >= 3.11, found " + sys.version.split()[0] + " (set PYTHON=...)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

install: .venv/.installed

# The plan comes first: what will be trained and what it takes, or one line on what is wrong with the study file.
study: .venv/.installed
	$(BIN)/robustgap study $(STUDY) --cores $(CORES)
	@echo "report: $(CURDIR)/results/$(STUDY)/report.html"

# What there is of a study, at any time, and what is missing.
interim: .venv/.installed
	$(BIN)/robustgap interim $(STUDY)

test: .venv/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 3 --dist loadgroup

# A minute of tests for the working loop, the broadest for their time: contracts, closed forms, brute force, schema.
CHECK := tests/project/test_project.py tests/analysis/ranks tests/analysis/verdicts/test_max_t.py \
  tests/analysis/statistics/test_partial.py tests/analysis/model_table/test_cells.py tests/measures/test_code.py \
  tests/measures/truth/test_truth.py tests/training/test_attacks.py tests/training/test_defense_losses.py \
  tests/training/test_settings.py tests/workflow/test_schema.py tests/workflow/test_grid.py
check: .venv/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -q -n 2 --dist loadgroup $(CHECK)

# Redraws every figure from results/STUDY/ledger, or from the shipped ledger where that study was not run here.
figures: .venv/.installed
	$(BIN)/robustgap figures $(STUDY) --jobs 2

lint: .venv/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakefmt --check Snakefile workflow/Snakefile workflow/rules docs
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

clean:
	rm -rf .venv results .snakemake
