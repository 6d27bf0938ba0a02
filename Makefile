# Everything runs in .venv, which is made on first use. PYTHON chooses the interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-slow test-mediapipe test-web test-all lint format clean

# The main job: train, compress, convert and evaluate on a generated town; then open quickstart/report.html.
quickstart: .venv/installed
	$(BIN)/python tools/quickstart.py --output=quickstart --overwrite

# Two processes, as a process spends much of its time on one core; a file's tests stay together for their fixtures.
test: lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

# MediaPipe needs another absl than TF-MOT, hence an environment of its own.
test-mediapipe: .venv/installed .venv-mediapipe/installed
	TFPLACES_MEDIAPIPE=.venv-mediapipe/bin/python $(BIN)/python -m pytest tests/lite/test_mediapipe.py

# What browsers' GPUs take: needs npm and a Chromium (CHROMIUM=PATH), and downloads two packages of 80 MB in all.
test-web: .venv/installed .web/installed
	TFPLACES_WEB_MODULES=.web/node_modules $(BIN)/python -m pytest tests/lite/test_browsers.py

# Every test there is; before a release.
test-all: test test-slow test-mediapipe test-web

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.venv-mediapipe/installed:
	$(PYTHON) -m venv .venv-mediapipe
	.venv-mediapipe/bin/python -m pip install --quiet --upgrade pip
	.venv-mediapipe/bin/python -m pip install --quiet "mediapipe<2"
	touch $@

.web/installed:
	npm install --silent --no-save --prefix .web @litertjs/core@2.5.3 @mediapipe/tasks-vision@1.1.0
	touch $@

clean:
	rm -rf .venv .venv-mediapipe .web build dist *.egg-info
