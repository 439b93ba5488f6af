# make demo   install, matte the sample clip, compare with its known alpha
# make test   install what the tests need and run them
# make check  lint and types
# make browser-test   the picker in Chromium, which has to be on the machine
# make screenshot     the picture of the picker in the README, made anew by one of these tests

PYTHON ?= python3
BIN := .venv/bin
# Quiet, and never asking: all targets run without a terminal.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: demo test check browser-test screenshot clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(PIP) --editable ".[web]"
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

browser-test: .venv/installed-dev
	$(BIN)/python -m pytest -m browser

screenshot: .venv/installed-dev
	PICKER_SCREENSHOT=docs/picker.png $(BIN)/python -m pytest -m browser -k readme

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv demo build *.egg-info
