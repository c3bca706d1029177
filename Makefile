# make demo     the default study, from data to report
# make test     everything that must hold, before every commit
# make test-all the same, and the tests marked long
# make docs     the documentation as a site, with the names of the Python interface: build/site/index.html
# make setup    the environment alone, in .venv
# make pull     data and results of another clone from the DVC remote, with nothing left to redo
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1

.PHONY: demo setup test test-all test-long lint lint-workflow lint-types docs pull clean

demo: $(READY)
	@snakemake results/demo/report.html --cores all
	@snakemake --cores all || unmirrored=1; tood show --study demo; [ -z "$$unmirrored" ]

setup: $(READY)
	@echo "ready: source .venv/bin/activate"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "make setup: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name one with make setup PYTHON=python3.12")'
	@echo "making the environment in .venv (a few minutes, about 7 GB)"
	@$(PYTHON) -m venv .venv
	@pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	@$(MAKE) --no-print-directory --jobs=2 lint-workflow lint-types

lint-workflow:
	snakemake --lint

lint-types:
	mypy

PYTEST := pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m "not long"

test-long: $(READY)
	$(PYTEST) -m long

test-all: test test-long

docs: $(READY)
	python docs/make_pages.py build/docs
	zensical build --config-file zensical.toml --clean --strict

pull: $(READY)
	dvc pull --allow-missing    # other studies may not be recorded yet
	tood sync
	snakemake --touch --cores all

clean:
	rm -rf build .cache .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis
