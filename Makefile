# Everything a person does with the platform. Paths are relative: the folder's name may hold spaces, and
# `make -C <folder>` works from anywhere.

PYTHON ?= python3.11
VENV_PYTHON := .venv/bin/python
SETUP := $(PYTHON) scripts/setup_environment.py
PYTEST := OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
LEVIBOT := $(VENV_PYTHON) -m levibot_pipelines.cli
BENCHMARKS := bit_identity features_speed one_bar point_in_time online_read volatility_models controls sequential_test \
	tft_latency oracle_agreement backtest_speed rollback_under_load serving_speed serving_footprint serving_soak \
	serving_faults

# Nobody is told how the platform is used; one thread per library in tests, or two busy ones on two cores collapse.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Threads that wait for work sleep instead of spinning; must be set before LightGBM loads.
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help setup demo up test coverage check format bench bench-peers constraints clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' Makefile | expand -t 14

setup: ## Create .venv with the pinned packages; does nothing when it is up to date
	@$(SETUP)

demo: setup ## Run the whole lifecycle once and show what happened
	@$(LEVIBOT) demo

up: setup ## Start the Dagster UI (:3000), the MLflow UI (:5000) and the API (:8000); Ctrl-C stops them
	@$(LEVIBOT) up

test: setup ## Run all tests
	@$(PYTEST)

# Apart from `test`, and not in .ci/run: to follow every line makes Python code take two thirds longer.
coverage: setup ## Run all tests and say which lines none of them runs; at least 80 % have to be
	@$(PYTEST) --cov --cov-report=term:skip-covered

check: setup ## Lint, types, import rules, and whether the data dictionary is up to date
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy
	@$(VENV_PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@$(LEVIBOT) features document --check

format: setup ## Format the code and fix what can be fixed by itself
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

bench-peers: setup ## Build the environments of the peers that benchmarks compare with
	@$(VENV_PYTHON) -m benchmarks.setup_peers

bench: setup ## Run all benchmarks (minutes, best on an idle machine) and print the results as Markdown
	@for name in $(BENCHMARKS); do $(VENV_PYTHON) -m benchmarks.$$name > /dev/null || exit 1; done
	@$(VENV_PYTHON) -m benchmarks.results_table

constraints: ## Resolve the newest allowed versions of every package and write constraints.txt
	@{ sed -n '/^#/p' constraints.txt; \
	   UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(VENV_PYTHON) -m uv pip compile pyproject.toml \
	     --all-extras --python-version 3.11 --no-annotate --no-header --quiet | sed 's/+cpu$$//'; \
	 } > .constraints.tmp && mv .constraints.tmp constraints.txt

clean: ## Remove the environment and caches; LEVIBOT_HOME stays
	@rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache
