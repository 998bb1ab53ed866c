# One command each; every one of them does all its set-up itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
.DELETE_ON_ERROR:
# Hundreds of processes of a test run would compile the package each time where compiled files are not kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow chaos bench causes install lint style format types pytest schema lock clean

run: .venv/.installed  ## the first result: run the quickstart, then compare back ends on it
	$(BIN)/pipeline run configs/quickstart.yaml --out out
	$(BIN)/pipeline compare configs/quickstart.yaml --repeat 3

test: .venv/.installed-dev format  ## lint, types, layers, tests; the types are checked beside the first tests
	@$(MAKE) --no-print-directory -j 2 types pytest

pytest: .venv/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-slow: .venv/.installed-dev  ## the long and the destructive tests as well, and new examples of property tests
	PIPELINE_EXPLORE=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "slow or not slow"

N ?= 30
chaos: .venv/.installed-dev  ## disturb N runs by signals at random, judge what they leave, and print a table
	PYTHONPATH=tests $(BIN)/python -m chaos $(N)

lint: style  ## style and types, and whether every test can be imported
	@said=$$($(BIN)/python -m pytest --collect-only -qqq -p no:cacheprovider 2>&1) || { echo "$$said"; exit 1; }

style: format types

format: .venv/.installed-dev
	$(BIN)/ruff check pipeline tests bench data
	$(BIN)/ruff format --check pipeline tests bench data

types: .venv/.installed-dev
	$(BIN)/mypy

schema: .venv/.installed  ## write docs/schema.json, which editors read, after a change of the language
	$(BIN)/pipeline schema -o docs/schema.json

notebook: .venv/.installed-dev  ## run the cells of docs/notebook.ipynb, and keep what they show; in a folder that is nobody's
	rm -rf /tmp/pipeline && mkdir /tmp/pipeline && cp -r configs data docs /tmp/pipeline
	cd /tmp/pipeline/docs && $(CURDIR)/$(BIN)/jupyter-execute --inplace notebook.ipynb
	PYTHONPATH=tests $(BIN)/python -m kernels /tmp/pipeline/docs/notebook.ipynb docs/notebook.ipynb

bench: .venv/.installed-dev  ## speed, as ratios measured in one run; needs a quiet machine
	$(BIN)/python -m bench

causes: .venv/.installed-dev  ## which step is guilty: what compare says of files with known causes; needs a quiet machine
	$(BIN)/python -m tests.causes

install: .venv/.installed

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pipeline needs Python 3.11 or newer; found " + sys.version)'
	$(PYTHON) -m venv .venv

# uv installs the same locked files in a fraction of the time; where it can't be had or can't reach a registry, pip does.
define INSTALL
$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(1) \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

.venv/.uv: .venv/bin/python requirements-uv.txt
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	touch $@

.venv/.installed: .venv/.uv requirements.txt pyproject.toml
	$(call INSTALL,requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(call INSTALL,requirements-dev.txt)
	touch $@

LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links

lock: .venv/.uv  ## resolve pyproject.toml anew into the lock files
	echo uv | $(LOCK) -o requirements-uv.txt -
	$(LOCK) --extra build -o requirements.txt pyproject.toml
	$(LOCK) --extra build --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml

clean:
	rm -rf .venv out runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
