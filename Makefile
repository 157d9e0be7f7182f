# The commands of a developer's day. Everything is installed into .venv by the first of them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CPP    := $(shell git ls-files '*.cpp' '*.h')

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:
	@echo "make demo    pictures of six classes and two channels of a real network, in demo/"
	@echo "make test    the whole test suite"
	@echo "make lint    ruff, mypy and clang-format"
	@echo "make format  rewrite the sources as make lint wants them"
	@echo "make bench   benchmarks; results go to benchmarks/results"
	@echo "make clean   remove .venv and what was built"

# The stamps are newer than what they were made from, so an unchanged checkout installs nothing again.
$(VENV)/installed: pyproject.toml setup.py $(shell git ls-files 'csrc/*')
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[models,torchvision]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	# Only for its data file, the spectrum that the golden values were computed with.
	$(BIN)/python -m pip install --quiet --no-deps 'xplique>=2.0,<3'
	touch $@

$(VENV)/installed-lint: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist demo *.egg-info fvfast/*.so
