# The two commands are `make quickstart` and `make test`; README.md has the same without make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test bench format lock clean

# Of pip's hundreds of lines, those that say what takes long. Its complaints stay, except for one
# per package and index when the user's own pip settings name an index that lacks the package.
HINTS = { grep --line-buffered -oE '^ *Downloading [^ ]+ \([0-9]{2,}[0-9.]* MB\)|^Installing collected packages' || true; }
COMPLAINTS = { grep -vE '^(WARNING: Location|DEPRECATION: )' >&2 || true; }
PIP_INSTALL = -m pip install --no-input --progress-bar off

help:
	@echo "make quickstart   set up $(VENV), then train five folds of a synthetic data set (5-7 minutes)"
	@echo "make test         set up $(VENV), then lint, type-check and test (20 to 40 minutes)"
	@echo "make bench        set up $(VENV), then measure beside the peers (about 45 minutes on a quiet machine)"
	@echo "make format       rewrite the Python files in the project's format (seconds)"
	@echo "make lock         renew constraints.txt with the newest versions allowed (3-5 minutes)"
	@echo "make clean        remove $(VENV), caches and build outputs; runs/ stays (seconds)"
	@echo "Another Python (3.11 to 3.13): make PYTHON=python3.12 quickstart"

quickstart: $(VENV)/.installed
	@echo "Training and testing five folds on synthetic sounds: about 3 minutes on 2 CPU cores."
	@$(BIN)/python -m jaxsound.main --config=configs/quickstart.py --workdir=runs/quickstart

test: $(VENV)/.installed-dev
	@echo "Checking style (ruff) and types (mypy): up to a minute."
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "error: not formatted as the project is; run: make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@echo "Running the tests, two files at a time: 20 to 40 minutes on 2 CPU cores, up to 13 GB."
	@$(BIN)/python -m pytest -n 2 --dist loadfile

# RECORDINGS=DIR names a folder that holds ESC-50-master; without it files are synthesised.
BENCHMARKS := preparation batches training startup loop inference crossval
bench: $(VENV)/.installed-bench
	@echo "Measuring: about 45 minutes; other programs falsify it."
	@for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py $(if $(RECORDINGS),'--recordings=$(RECORDINGS)') || exit; done
	@$(BIN)/python benchmarks/growth.py

format: $(VENV)/.installed-dev
	@echo "Formatting: seconds."
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

# A set-up is done again only when pyproject.toml or constraints.txt is newer than its stamp.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(call check-python)
	$(call set-up,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call check-python)
	$(call set-up,.[dev])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt
	$(call check-python)
	$(call set-up,.[bench])
	@touch $(VENV)/.installed $@

define check-python
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no '$(PYTHON)' here; name a Python 3.11 to 3.13: make PYTHON=/path/to/python3 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "error: jaxsound needs Python 3.11 to 3.13, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: '$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
endef

define set-up
	@echo "Setting up $(VENV) with the versions of constraints.txt: 2 to 4 minutes; 650 MB to download, 3 GB on disk."
	@"$(PYTHON)" -m venv $(VENV)
	@set -o pipefail; $(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '$(1)' 2> >($(COMPLAINTS)) | $(HINTS)
endef

# TensorFlow goes by two names (pyproject.toml says why); both get the version that was tested.
# `--all` keeps setuptools and wheel, which TensorFlow depends on.
lock:
	$(call check-python)
	@echo "Resolving the newest versions that pyproject.toml allows: 3 to 5 minutes."
	@"$(PYTHON)" -m venv --clear $(VENV)-lock
	@set -o pipefail; $(VENV)-lock/bin/python $(PIP_INSTALL) --upgrade setuptools -e '.[dev]' 2> >($(COMPLAINTS)) | $(HINTS)
	@set -o pipefail; { echo "# Written by 'make lock'. The exact versions that the tests ran with (Python 3.11, Linux x86-64)."; \
	   $(VENV)-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	   | sed -E 's/[+][a-z0-9.]+$$//' | sed -nE -e '/ @ /d' -e 's/^tensorflow_cpu==(.*)/&\ntensorflow==\1/p;t' -e '/==/p'; } >constraints.new
	@mv constraints.new constraints.txt
	@rm -rf $(VENV)-lock
	@echo "Wrote constraints.txt: $$(grep -c == constraints.txt) packages. Now: make test"

clean:
	@echo "Removing $(VENV), caches and build outputs: seconds."
	@rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
