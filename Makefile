# `make run` and `make test` work on a fresh clone: they build .venv first, once.

PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
PINNED := $(VENV)/.pinned
EXTRAS := dev

.PHONY: run test test-slow check format lock clean

run: $(READY)  ## the main job; ARGS="--epochs 5" passes options on
	$(VENV)/bin/python -m experiments digits $(ARGS)

# Thousands of small programs are compiled and run once each. Without its newer code for fusions XLA needs two thirds of the time;
# cut in one piece, not 32 to share among threads, a program takes a tenth less, as both cores have a worker anyway.
TEST_XLA := XLA_FLAGS="$(strip $(XLA_FLAGS) --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1)"

test: $(READY)  ## all tests; ARGS="-k dense" passes options on
	$(TEST_XLA) $(VENV)/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-slow: $(READY)  ## the studies that take minutes
	$(VENV)/bin/python -m pytest -n 2 -m slow $(ARGS)

check: $(READY)  ## style, format and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

format: $(READY)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lock:  ## pin what pyproject.toml asks for, for every Python and platform (needs uv)
	uv pip compile --universal --generate-hashes --no-header --no-annotate --extra $(EXTRAS) pyproject.toml -o requirements.txt

clean:
	rm -rf $(VENV)

# The pinned packages, in a call of its own: with hashes in the file pip takes nothing that is not listed.
$(PINNED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxbp needs Python 3.11 or newer, %s is %s; try: make PYTHON=python3.12 $(MAKECMDGOALS)" % (sys.executable, sys.version.split()[0]))'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(READY): pyproject.toml $(PINNED)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
