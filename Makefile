# The environment is made in .venv; PY=… uses another, in which everything is installed already.
VENV := .venv
PY ?= $(VENV)/bin/python
RUN := PYTHONUTF8=1 $(PY)
COCO19 ?= ../shared
export COCO19

.PHONY: demo test lint real install clean

ifeq ($(PY),$(VENV)/bin/python)
install: $(VENV)/.installed
else
install:
endif

# uv takes torch and torchvision from one place; a plain pip may bring two that do not fit together.
$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --editable '.[test]'
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/encode_once   # for mypy, which does not run import hooks
	touch $@

demo: install            ## compose pictures, encode, fit, compare: three minutes
	$(RUN) cli.py demo

test: install            ## the test suite: no network, no data
	$(RUN) -m pytest -m 'not real' -n auto

real: install            ## checks on the real data in $COCO19, skipped where there is none
	$(RUN) -m pytest -m real

lint: install            ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:                   ## remove the environment and what the demo made
	rm -rf $(VENV) demo
