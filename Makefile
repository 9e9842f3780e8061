# dpsynth: `make demo` and `make test` need Python 3.11+ and nothing else.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/installed
# Steps of small networks gain nothing from threads, and lose much when other processes want the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
TESTS := $(ONE_THREAD) $(RUN) -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-door lint mlflow docs licences clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' Makefile

install: $(STAMP) ## make .venv and install the pinned versions (the other targets do it when needed)

$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "dpsynth needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) \
	  || { echo "Python's venv module is missing (Debian: apt install python3-venv)." >&2; exit 1; }
	PIP_CONSTRAINT=$(CURDIR)/.ci/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(RUN) -m pip install --quiet 'torch==2.13.0'
	PIP_CONSTRAINT=$(CURDIR)/.ci/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(RUN) -m pip install --quiet -e '.[test,datasets,joblib]'
	@touch $(STAMP)

demo: $(STAMP) ## three generators at two epsilons on real data, offline: the privacy-utility table
	@$(ONE_THREAD) $(RUN) -m experiments.train -m experiment=demo

test: $(STAMP) ## the fast tests
	@$(TESTS) -m 'not slow'

test-slow: $(STAMP) ## the long statistical tests
	@$(TESTS) -m slow

test-door: $(STAMP) ## what newcomers meet: the wheel, installed elsewhere, and the code of README and pages
	@$(TESTS) tests/end_to_end/test_wheel.py tests/end_to_end/test_pages.py

lint: $(STAMP) ## style
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

mlflow: $(STAMP) ## open what the runs recorded
	@DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(VENV)/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db

docs: $(STAMP) ## build the documentation as a site in build/site, API included
	@$(RUN) -m pip install --quiet --constraint .ci/constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict -f notebooks/mkdocs.yml
	@echo 'open build/site/index.html'

licences: $(STAMP) ## write the licences of the dependencies, as they declare them
	@$(RUN) .ci/licences.py

clean: ## remove caches; keeps .venv, outputs and mlflow.db
	@find dpsynth experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
