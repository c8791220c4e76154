# make run    the app at http://127.0.0.1:8501, installed on the first call
# make test   style, types and tests; what CI runs
# make lint, make format, make screenshots, make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := anthropic,gemini,gemini-legacy,lora,multi-gpu,redis
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: run test lint format screenshots clean

run: $(VENV)/.installed
	$(BIN)/labelfusion app

# Two tests at once; those in a browser one at a time, so that pages answer in time.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not browser"
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m pyright --pythonpath $(BIN)/python labelfusion pages app.py

format: $(VENV)/.installed-dev
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

screenshots: $(VENV)/.installed-dev
	$(BIN)/python -m scripts.screenshots

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps make an install happen once, and again when what is wanted changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --compile -e '.[$(EXTRAS)]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --compile -e '.[$(EXTRAS),ray,dev]'
	touch $@ $(VENV)/.installed
