# make demo           install, matte the sample clip, compare with its known alpha
# make test           install what the tests need and run them
# make check          lint and types
# make docs           build the documentation into site/; open site/index.html
# make options        write docs/options.md from the commands
# make wheel-test     build wheel and source archive, check both, matte in a clean environment
# make coverage       run the tests and measure which lines they reach (slower than make test)
# make check-js       check the types of the picker's scripts (needs Node.js)
# make browser-test   the picker in Chromium, which has to be on the machine
# make screenshot     take the documentation's pictures of the picker again, with one of these tests

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
# Quiet, and never asking: all targets run without a terminal.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt

.PHONY: demo test check docs options wheel-test coverage check-js browser-test screenshot clean

.venv/created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/created pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable ".[dev]"
	touch $@

.venv/installed-docs: .venv/installed
	$(PIP) --editable ".[docs]"
	touch $@

demo: .venv/installed
	$(BIN)/vidmatte demo demo --overwrite

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The variable silences a notice of the theme about the plans of MkDocs; pyproject.toml bounds both versions.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

options: .venv/installed
	$(BIN)/python docs/make_options.py

wheel-test: .venv/installed-dev
	$(BIN)/python .ci/wheel_test.py

coverage: .venv/installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

node_modules/installed: package.json
	npm install --silent --no-audit --no-fund --no-package-lock
	touch $@

check-js: node_modules/installed
	npm run --silent check

browser-test: .venv/installed-dev
	$(BIN)/python -m pytest -m browser

screenshot: .venv/installed-dev
	PICKER_SCREENSHOT=docs/picker.png $(BIN)/python -m pytest -m browser -k documents

clean:
	rm -rf .venv demo build dist site node_modules .coverage .coverage.* *.egg-info
