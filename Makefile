# What one does with a checkout. Needs Python 3.10 to 3.13, git and make; the rest is installed into
# .venv, at the versions that requirements.lock pins.
#
#   make demo PYTHON=python3.12     another Python, when the environment is made
#   make test ARGS="-k graph -x"    more for pytest
#   make test VENV=/tmp/env         another place for the environment

VENV ?= .venv
ARGS ?=
TABLE ?= run/table
bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check

# What the caller's shell says about other environments stays outside of ours.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV CONDA_PREFIX PIP_USER PIP_TARGET PIP_PREFIX \
	PIP_REQUIRE_VIRTUALENV PYTEST_ADDOPTS

.PHONY: help demo test test-slow table site pictures notebooks lint format build lock clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-run  ## find, test and draw a circuit in the bundled model
	$(bin)/sae-circuits demo

test: $(VENV)/.installed-test  ## run the tests on all cores, but for the slow ones
	$(bin)/python -m pytest -n auto --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed-test  ## run the slow tests only
	$(bin)/python -m pytest -m slow -n auto --dist worksteal $(ARGS) || [ $$? = 5 ]  # 5: there are none

table: $(VENV)/.installed-run  ## make docs/method-table.md anew: every method on every bundled task
	$(bin)/sae-circuits benchmark --out $(TABLE) --seeds 1 --n 32 --known all \
	  $(foreach task,ioi greater_than subject_verb induction docstring facts,--task $(task))
	{ printf '# Every method on every bundled task\n\n`make table` makes this page anew.\n\n'; \
	  cat $(TABLE)/table.md; } > docs/method-table.md

site: $(VENV)/.installed-docs  ## build the documentation's site in site/, strictly
	NO_MKDOCS_2_WARNING=1 $(bin)/python -m mkdocs build --strict
	@echo "Read it with: $(bin)/python -m http.server --directory site"

pictures: $(VENV)/.installed-run  ## draw the drawings of the docs anew
	$(bin)/python docs/pictures/draw.py

notebooks: $(VENV)/.installed-test  ## run the notebooks, and keep what they show in them
	$(bin)/python notebooks/save_outputs.py

lint: $(VENV)/.installed-dev  ## style, format, types and import layers
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python
	$(bin)/lint-imports --no-cache

format: $(VENV)/.installed-dev  ## put the code into the house's form
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

build: $(VENV)/.installed-test  ## make the wheel and the source archive in dist/
	$(bin)/python -m hatchling build

# Torch's own pins of the CUDA packages stay out, so that any build of that torch fits the lock.
lock: $(VENV)/.installed-run  ## pin the newest versions that fit pyproject.toml
	$(pip) install --quiet uv
	{ sed -n '/^#/p' requirements.lock; \
	  $(bin)/python -m uv pip compile pyproject.toml --extra dev --extra docs --universal --upgrade \
	    --python-version 3.10 --no-python-downloads --no-header --no-annotate --quiet \
	    | grep -vE "^(nvidia-|cuda-|triton)|== '(emscripten|pypy)'"; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## remove the environment and everything that can be made again
	rm -rf $(VENV) build dist demo-run run runs site .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each mark is set after an installation that went through, and stands until what it depends on is
# newer. An environment that is not there, or whose Python has gone, is made anew.
ifeq ($(wildcard $(bin)/python),)
.PHONY: $(VENV)/.made
endif

install = $(pip) install --quiet --constraint requirements.lock --editable

$(VENV)/.installed-run: $(VENV)/.made pyproject.toml requirements.lock
	@echo "Installing sae-circuits into $(VENV) (a few minutes the first time) ..."
	$(install) .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml requirements.lock
	@echo "Installing sae-circuits and what its tests need into $(VENV) (a few minutes the first time) ..."
	$(install) '.[test]'
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml requirements.lock
	@echo "Installing sae-circuits and its tools into $(VENV) (a few minutes the first time) ..."
	$(install) '.[dev]'
	@touch $@ $(VENV)/.installed-run $(VENV)/.installed-test

$(VENV)/.installed-docs: $(VENV)/.made pyproject.toml requirements.lock
	@echo "Installing sae-circuits and what its site needs into $(VENV) (a few minutes the first time) ..."
	$(install) '.[docs]'
	@touch $@ $(VENV)/.installed-run

pythons := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python)
usable := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))

# A folder that is called otherwise than ours, and that make did not make, is left alone.
$(VENV)/.made:
	@if [ '$(VENV)' != .venv ] && [ ! -e '$@' ] && [ -n "$$(ls -A '$(VENV)' 2> /dev/null)" ]; then \
	  echo "$(VENV) is there, and make did not make it: it would be emptied." \
	    "Remove it, or name another with: make $(MAKECMDGOALS) VENV=/path" >&2; \
	  exit 1; \
	fi
	@for python in $(pythons); do \
	  if "$$python" -c '$(usable)' 2> /dev/null; then \
	    echo "Making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear '$(VENV)' && touch '$@' && exit 0 || exit 1; \
	  fi; \
	done; \
	echo "No usable Python: sae-circuits needs Python 3.10 to 3.13 with its venv module" \
	  "(on Debian and Ubuntu: apt-get install python3-venv)." >&2; \
	echo "Looked for: $(pythons)." \
	  "Name another with: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1
