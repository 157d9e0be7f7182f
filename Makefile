# The commands of a developer's day. Everything is installed into .venv by the first of them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CUDA_ARCHS := sm_75 sm_80 sm_86 sm_90 sm_100 sm_120
# Files of tests in two processes, whose waiting threads leave the cores to each other.
# In the order of collection: tests that fork come first (tests/conftest.py).
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
CPP     = $(shell git ls-files '*.cpp' '*.cu' '*.h')

.DEFAULT_GOAL := help
.PHONY: help demo atlas test test-thorough test-all lint format cuda-check gpu-quick gpu-check bench bench-peers bench-lucent wheel clean

help:
	@echo "make demo    pictures of six classes and two channels of a real network, in demo/"
	@echo "make atlas   twelve units of two layers of that network, and pages to look at them, in demo/atlas/"
	@echo "make test    the tests to run before a commit"
	@echo "make test-thorough  what make test leaves out"
	@echo "make test-all    both"
	@echo "make lint    ruff, mypy and clang-format"
	@echo "make format  rewrite the sources as make lint wants them"
	@echo "make cuda-check  compile the CUDA kernels, run the machine code's PTX, count what they move"
	@echo "make gpu-quick   eight minutes of checks and measurements on a GPU, without installation"
	@echo "make gpu-check   the whole suite and all measurements on a GPU, for hours"
	@echo "make bench   benchmarks; results go to benchmarks/results"
	@echo "make bench-peers  the same work in other libraries (installs them, 2 GB)"
	@echo "make bench-lucent the same pictures with Lucent (installs it)"
	@echo "make wheel   the wheel and the source distribution of a release, checked, in dist/"
	@echo "make clean   remove .venv and what was built"

# The stamps are newer than what they were made from, so an unchanged checkout installs nothing again.
# Every installation builds the native module: tests and lint share one.
SOURCES := pyproject.toml setup.py build_native.py $(shell find csrc -type f)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	@echo "The native module is compiled for one to two minutes, and for more with CUDA."
	$(BIN)/python -m pip install --quiet --editable '.[models,torchvision]'
	touch $@

$(VENV)/installed-dev: $(SOURCES) | $(BIN)/python
	@echo "The native module is compiled for one to two minutes, and for more with CUDA."
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	# Only for its data file, the spectrum that the golden values were computed with.
	$(BIN)/python -m pip install --quiet --no-deps 'xplique>=2.0,<3'
	touch $(VENV)/installed $@

# The extra of what is installed: nothing is built for it. What FVFAST_CUDA asks for is the wheel's.
$(VENV)/installed-release: $(SOURCES)
	env -u FVFAST_CUDA -u FVFAST_CUDA_ARCHS $(MAKE) $(VENV)/installed
	$(BIN)/python -m pip install --quiet 'fvfast[release]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

# Run again, it draws what is missing.
atlas: $(VENV)/installed
	$(BIN)/fvfast atlas run efficientnet_lite0 --layer _blocks.4 --layer _fc --units 0-5 --size 256 --out demo/atlas
	$(BIN)/fvfast atlas gallery demo/atlas --out demo/atlas/pages

test: $(VENV)/installed-dev
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m 'not thorough' $(PARALLEL)

test-thorough: $(VENV)/installed-dev
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m thorough $(PARALLEL)

test-all: test test-thorough

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

# Needs nvcc, and no GPU.
cuda-check: $(VENV)/installed-dev
	$(BIN)/python tools/cuda_check --arch $(CUDA_ARCHS)

# These need a GPU. The first one runs with the Python and the packages that are there.
gpu-quick:
	$(PYTHON) -m benchmarks.gpu_quick --output build/gpu_quick

gpu-check: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.gpu_check

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

# The other libraries, each in an environment of its own, for the contests in benchmarks/.
PEERS     := benchmarks/peers
PURELIB   := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
dreamlens := dreamlens==0.1.1
horama    := horama==0.3.0 einops  # which it imports and does not ask for
lucent    := torch-lucent==0.1.8 kornia==0.4.1 decorator future

bench-peers: $(PEERS)/.venv-xplique/installed $(PEERS)/.venv-dreamlens/installed $(PEERS)/.venv-horama/installed
	$(BIN)/python -m benchmarks.hot_path
	$(BIN)/python -m benchmarks.end_to_end

bench-lucent: $(PEERS)/.venv-lucent/installed
	$(BIN)/python -m benchmarks.lucent_comparison

$(PEERS)/.venv-xplique/installed: $(PEERS)/xplique-requirements.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	$(@D)/bin/python -m pip install --quiet --no-deps xplique==2.0.2 'tensorflow-probability==0.25.*' 'tf-keras==2.20.*'
	touch $@

# These see the packages of .venv: the same torch as fvfast, installed once. (The spectrum that
# Horama would download comes from there too.)
$(PEERS)/.venv-%/installed: $(VENV)/installed-dev
	test -x $(@D)/bin/python || $(BIN)/python -m venv $(@D)
	$(BIN)/python $(PURELIB) > "$$($(@D)/bin/python $(PURELIB))/main.pth"
	$(@D)/bin/python -m pip install --quiet --no-deps $($*)
	touch $@

# The wheel is made from the source distribution, for the Python of .venv. libgomp stays outside: the
# threads are those of torch, whose copy is loaded first. (The module links no library of torch.)
RAW := build/dist

wheel: $(VENV)/installed-release
	rm -rf $(RAW) dist
	FVFAST_NATIVE=1 $(BIN)/python -m build --outdir $(RAW)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 --wheel-dir dist $(RAW)/*.whl
	cp $(RAW)/*.tar.gz dist/
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tools/release/check_wheel.py dist/*.whl

clean:
	rm -rf $(VENV) $(PEERS)/.venv-* build dist demo *.egg-info fvfast/*.so
