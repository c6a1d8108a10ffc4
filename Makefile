# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test slow bench torture lint types docs format clean

help:
	@echo "make demo    drawn scenes, a toy CLIP, eleven methods; make demo ARGS='--pamr-steps 5'"
	@echo "make test    the tests that run in minutes;  make slow: the others"
	@echo "make bench   how fast, against the reference's way (a quarter of an hour); make bench ARGS='--only plain'"
	@echo "make torture what the store survives (an hour); make torture ARGS='--short --only killed'"
	@echo "make docs    the documentation as a site, build/site; a warning or a broken link is an error"
	@echo "make lint    ruff;  make types: mypy --strict;  make format: ruff format"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/sclip demo $(ARGS)

test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

slow: install
	$(BIN)/python -m pytest -m "slow and not long"

bench: install
	$(BIN)/python -m benchmarks $(ARGS)

torture: install
	$(BIN)/python -m tests.torture $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

docs: install
	$(BIN)/zensical build --clean --strict
	$(BIN)/python -m pytest tests/docs/test_links.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build .cache .pytest_cache .mypy_cache .ruff_cache
