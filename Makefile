# Each target installs what it needs into .venv, except bench-gpu and test-gpu; the machine
# needs python3 (3.11 or newer).
#   make demo         trains a CNN and an ST-CNN on embedded digits
#   make test         runs the test suite without its slow part
#   make test-slow    runs the slow part
#   make test-faults  kills and disturbs trainings: nothing that was saved may be lost
#   make soak         does that for 20 minutes (MINUTES=N), and counts
#   make bench        times the sampler and training steps beside PyTorch
#   make bench-all    times the sampler beside every peer
#   make bench-gpu    times all on a GPU with the machine's own jax and PyTorch, in less than
#                     ten minutes, and writes docs/benchmarks-gpu.md
#   make test-gpu     tests values, gradients, precision and determinism on a GPU
#   make docs         tests the code of the documentation, and builds it into build/docs
#   make site         builds it without the tests
#   make wheels       builds the wheels into dist/ and checks them in clean environments
#                     (NEWEST=PYTHON: also with the newest jax, under Python 3.12 or later)
#   make lint         runs ruff and pyright, and checks the workflows
# PYTHON=python3.12 chooses the interpreter, VENV=DIR the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

.PHONY: demo test test-slow test-faults soak bench bench-all bench-gpu test-gpu docs site wheels \
  lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/train
	$(BIN)/python -m train run demo --overwrite

# Most of the time is compilation, so LLVM does not optimize here; test-slow does.
test: export XLA_FLAGS ?= --xla_backend_optimization_level=0
test: $(VENV)/test
	$(BIN)/python -m pytest -n auto -m "not slow and not faults"

test-slow: $(VENV)/test
	$(BIN)/python -m pytest -n auto -m slow

test-faults: export XLA_FLAGS ?= --xla_backend_optimization_level=0
test-faults: $(VENV)/test
	$(BIN)/python -m pytest -n 3 -m "faults and not slow" tests/train/test_faults.py
	$(BIN)/python -m pytest -m "faults and not slow" tests/train/test_processes.py

MINUTES ?= 20
soak: $(VENV)/test
	PYTHONPATH=.:tests $(BIN)/python tests/train/soak.py --minutes $(MINUTES)

# a program from the cache would be compiled in no time
bench bench-all bench-gpu: export JAX_ENABLE_COMPILATION_CACHE = false
bench: $(VENV)/bench
	$(BIN)/python -m stn_jax.cpu
	$(BIN)/python -m benchmarks

bench-all: $(VENV)/bench-all
	$(BIN)/python -m stn_jax.cpu
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks --peers all

# with the machine's jax, which sees its GPU; they say which packages are missing
bench-gpu:
	$(PYTHON) -m benchmarks.gpu

test-gpu:
	PYTHONPATH=.:tests $(PYTHON) tests/gpu.py

# Doctests and the code of pages that are not executed, then the site.
docs: $(VENV)/docs
	XLA_FLAGS=--xla_backend_optimization_level=0 $(BIN)/python -m pytest -n auto -q \
	  -m "not slow" stn_jax tests/test_docs.py tests/test_site.py
	$(MAKE) site VENV=$(VENV)

# Everything anew: a page that did not change may show a function that did.
site: $(VENV)/docs
	rm -rf build/docs build/doctrees docs/api docs/examples docs/notebooks
	$(BIN)/python -m sphinx -W -q -j auto -d build/doctrees docs build/docs
	@echo "the documentation: build/docs/index.html"

wheels: $(VENV)/dev
	$(BIN)/python tests/wheels.py $(if $(NEWEST),--newest $(NEWEST))

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml

# one stamp for each extra of pyproject.toml; a change of that file, or of the kernel, which
# is compiled then, reinstalls
KERNEL := hatch_build.py $(addprefix stn_jax/sampling/cpu/,compiler.py variants.py) \
  $(wildcard stn_jax/sampling/cpu/kernel/*)
$(addprefix $(VENV)/,train test bench bench-all docs dev): $(VENV)/%: pyproject.toml $(KERNEL) | $(BIN)/pip
	@echo "installing stn_jax[$*] into $(VENV) ..."
	$(PIP) --editable ".[$*]"
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "stn_jax needs Python 3.11 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1): choose another, as in make PYTHON=python3.12"; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu:" \
	    "apt install python3-venv"; \
	  exit 1; }

clean:
	rm -rf $(VENV) .cache build dist
