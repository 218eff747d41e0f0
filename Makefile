# Two commands do everything on a fresh machine with Python 3.11 or newer and make:
#   make quickstart   runs the main job: teach, prove, serve
#   make test         lints, type-checks and tests
# Both install exactly the versions that constraints.txt names. Two more are for moving them:
#   make test-newest  runs the quick tests with the newest versions that pyproject.toml allows
#   make constraints  writes those versions into constraints.txt
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOME_FOLDER := .ratchet/quickstart
NEWEST := .venv-newest
OFFLINE := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
PYTEST := $(OFFLINE) $(BIN)/python -m pytest
# What builds the package is constrained as well: older pips read the first variable for that, newer ones the second.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
  $(BIN)/python -m pip install --quiet -c constraints.txt
NEED_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

export OMP_WAIT_POLICY ?= PASSIVE
export RAY_AUTH_MODE ?= disabled
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test lint types unit slow coverage servers newest test-newest constraints clean

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

# What the libraries' next releases break, before anyone's machine meets it; not part of `test`. Warnings are shown and end
# nothing.
test-newest: newest servers
	NEWEST_LIBRARIES=1 $(OFFLINE) $(NEWEST)/bin/python -m pytest -m "not slow" -n 2 -W default

# Without local labels such as +cpu, so that every build of PyTorch fits. `make test` says whether they work.
constraints: newest
	$(NEWEST)/bin/python -m pip list --format=freeze --exclude-editable --exclude pip > $(NEWEST)/versions.txt
	{ echo '# What the tests ran on: the newest versions that pyproject.toml allowed, of all extras, on one day.' && \
	  echo '# Written by `make constraints` with Python 3.11 on Linux; use it as pip install -c constraints.txt ...' && \
	  sed 's/+.*//' $(NEWEST)/versions.txt; } > $(NEWEST)/constraints.txt
	mv $(NEWEST)/constraints.txt constraints.txt

newest:
	$(NEED_PYTHON)
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[quickstart,huggingface,s3,dev]'

$(VENV)/quickstart.installed: pyproject.toml constraints.txt
	$(NEED_PYTHON)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[quickstart]'
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt
	$(NEED_PYTHON)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[quickstart,huggingface,s3,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) .ratchet build *.egg-info .pytest_cache .ruff_cache .coverage
