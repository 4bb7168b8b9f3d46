# Every target sets up .venv by itself; only Python 3.11 to 3.14 and make are needed.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
LITELLM := .litellm
TYPESCRIPT := .typescript/7.0.2
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo app test lint types bench litellm clean

help:
	@echo "make demo   convert the small model that comes with the package and ask it two questions"
	@echo "make app    the page in the browser, with the model used last or the small one"
	@echo "make test   run the tests (all but those marked slow)"
	@echo "make lint   ruff, mypy, the contracts between the rooms, and make types"
	@echo "make types  check the types of the page's scripts, where npm is installed"
	@echo "make bench  counts and host time against the stored bounds: minutes, fails when one got worse"
	@echo "make litellm  LiteLLM's proxy for the test of its configuration, apart from .venv"
	@echo "make clean  remove .venv and caches"

demo: $(VENV)/.base
	@$(VENV)/bin/magistral-mlx demo

app: $(VENV)/.app
	@$(VENV)/bin/magistral-mlx app

# A worker for each of two cores: MLX's CPU backend computes on one.
test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Without npm, or where npm cannot install TypeScript, this check is skipped.
TSC := $(TYPESCRIPT)/node_modules/.bin/tsc
NPM_INSTALL := npm install --silent --no-save --no-package-lock --no-audit --no-fund --fetch-retries 1

types:
	@if [ -x $(TSC) ] || { command -v npm && \
		$(NPM_INSTALL) --prefix $(TYPESCRIPT) typescript@$(notdir $(TYPESCRIPT)); } >/dev/null; \
	then echo "$(TSC)" && $(TSC) --project app/assets/scripts; \
	else echo "TypeScript is not there: the types of the page's scripts are not checked"; fi

bench: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/bounds.py

# The demo waits for the runtime only; the tests add torch and transformers, which take minutes.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing magistral-mlx into $(VENV) (about a minute, once)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing magistral-mlx and its page into $(VENV) (some minutes, once)"
	@$(PIP) -e ".[app]"
	@touch $(VENV)/.base $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing magistral-mlx and the test oracles into $(VENV) (some minutes, once)"
	@$(PIP) -e ".[dev]"
	@touch $(VENV)/.base $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 15) else "Python 3.11 to 3.14 is needed, and this is %d.%d: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -m venv $(VENV)

# What its release wants contradicts six of our pins: it has a folder of its own without these, and of
# its extra [proxy] only what the proxy imports.
NOT_LITELLMS := filelock|huggingface-hub|openai|python-dateutil|rich|websockets
PROXY := litellm uvicorn fastapi orjson backoff apscheduler python-multipart "rich<14" "websockets<16" \
	cryptography redis mcp expression fastapi-sso soundfile uvloop

litellm: $(LITELLM)/.ready

$(LITELLM)/.ready: constraints.txt
	@echo "Installing LiteLLM's proxy into $(LITELLM) (one to two minutes, once)"
	@$(PYTHON) -m venv $(LITELLM)
	@grep -vE '^($(NOT_LITELLMS))==' constraints.txt > $(LITELLM)/constraints.txt
	@$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c $(LITELLM)/constraints.txt $(PROXY)
	@touch $@

clean:
	rm -rf $(VENV) $(LITELLM) .typescript build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
