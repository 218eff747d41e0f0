# Two commands do everything on a fresh machine with Python 3.11 or newer and make:
#   make quickstart   runs the main job: teach, prove, serve
#   make test         lints, type-checks and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOME_FOLDER := .ratchet/quickstart
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

export OMP_WAIT_POLICY ?= PASSIVE
export RAY_AUTH_MODE ?= disabled
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test lint types unit slow coverage servers clean

quickstart: $(VENV)/quickstart.installed
	$(BIN)/python configs/quickstart/demo.py --home $(HOME_FOLDER)

test: lint types unit slow

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.installed
	$(BIN)/pyright

# What the tests start themselves, and cannot bring along: the binaries of PostgreSQL.
servers:
	command -v initdb || ls /usr/lib/postgresql/*/bin/initdb || \
	  { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql; }

unit: $(VENV)/dev.installed servers
	$(PYTEST) -m "not slow" -n 2

slow: $(VENV)/dev.installed servers
	$(PYTEST) -m slow -n 2 --dist loadfile --no-loadscope-reorder

# Which lines no quick test reaches; not part of `test`, which it slows by a third.
coverage: $(VENV)/dev.installed servers
	$(PYTEST) -m "not slow" -n 2 --cov --cov-report=term:skip-covered

$(VENV)/quickstart.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[quickstart]'
	touch $@

$(VENV)/dev.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[quickstart,s3,dev]'
	touch $@

clean:
	rm -rf $(VENV) .ratchet build *.egg-info .pytest_cache .ruff_cache .coverage
