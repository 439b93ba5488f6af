# make demo   install, matte the sample clip, compare with its known alpha
# make test   install what the tests need and run them
# make check  lint and types

PYTHON ?= python3
BIN := .venv/bin
# Quiet, and never asking: all targets run without a terminal.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: demo test check clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/installed pyproject.toml
	$(PIP) --editable ".[dev]"
	touch $@

demo: .venv/installed
	mkdir -p demo
	$(BIN)/vidmatte samples/portrait.mp4 --prompts samples/portrait.prompts.json --overwrite \
		-o demo/portrait.mov -o demo/portrait.webm --alpha demo/portrait_alpha.mkv
	$(BIN)/python samples/score.py demo/portrait_alpha.mkv samples/portrait_alpha.mkv

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv demo build *.egg-info
