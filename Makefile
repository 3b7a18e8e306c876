# The environment is made in .venv; PY=… uses another, in which everything is installed already.
VENV := .venv
PY ?= $(VENV)/bin/python
# Compiled modules are kept, even where the environment forbids it: else each process compiles all it imports.
RUN := PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE= $(PY)
COCO19 ?= ../shared
export COCO19

# Tests whose figures depend on the order in which the processor adds.
NUMERICAL := tests/extract/encoders tests/classify/heads tests/classify/decisions tests/classify/evaluation \
  tests/classify/data/test_duplicates.py tests/deploy/test_decision_graph.py tests/deploy/test_onnx_export.py
# Among these, but the same on every processor.
CONTRACTS := tests/classify/heads/test_estimator.py tests/classify/decisions/test_classifier.py
# Tests that break a store at one place after the other: `make test` tries every fourth.
BROKEN := tests/crash tests/cache/test_damage.py tests/cache/test_merge.py
# Slow tests that `make slow` leaves out, as CI does with those of every network and every estimator.
LEAVE_OUT ?=
ROUNDS ?= 3
KILLS ?= 200

# ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, and what a processor has that computes otherwise than these.
SSE := 'default SSE41 avx2'
AVX2 := 'avx2 AVX2 avx512bw'
PROCESSORS ?= $(SSE) $(AVX2)

INPUTS ?= 10000
FUZZ ?= fuzz.json

.PHONY: demo test browser numerical-tests other-processors other-python fuzz-tests fuzz lint real real-data slow scale install scale-install clean

ifeq ($(PY),$(VENV)/bin/python)
install: $(VENV)/.installed
scale-install: $(VENV)/.scale
else
install scale-install:
endif

# uv takes torch and torchvision from one place; a plain pip may bring two that do not fit together.
$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --editable '.[test]'
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/encode_once   # for mypy, which does not run import hooks
	touch $@

# With what only `make scale` needs, such as an object store.
$(VENV)/.scale: $(VENV)/.installed
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --editable '.[scale]'
	touch $@

demo: install            ## compose pictures, encode, fit, compare: three minutes
	$(RUN) cli.py demo

test: install            ## the test suite: no network, no data, nothing slow
	$(RUN) -m pytest -m 'not real and not slow and not scale' -n auto --dist loadgroup

browser:                 ## Debian's Chromium, for the tests of pages, which are skipped without it
	command -v chromium || (apt-get update && apt-get install -y --no-install-recommends chromium)

numerical-tests: install ## those tests of it whose figures depend on the processor
	$(RUN) -m pytest -m 'not real and not slow and not scale' -n auto --dist loadgroup --hypothesis-profile=fixed \
	  $(NUMERICAL) $(addprefix --ignore=,$(CONTRACTS))

other-processors: install ## the same as x86-64 processors compute that have less than this one: SSE alone, and AVX2
	set -e; for kind in $(PROCESSORS); do \
	  set -- $$kind; \
	  if grep -qw $$3 /proc/cpuinfo; then \
	    echo "== ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2"; \
	    ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2 $(MAKE) --no-print-directory numerical-tests; \
	  else echo "== skipped: this processor has no $$3, so that make test computes like this"; fi; \
	done

other-python:            ## the same on Python 3.13, in an environment of its own
	@for python in python3.13 ~/.pyenv/versions/3.13*/bin/python none; do \
	  "$$python" --version 2>/dev/null && break; \
	done; \
	if [ "$$python" = none ]; then echo "== skipped: there is no python3.13"; exit 0; fi; \
	set -e; \
	[ -e .venv-3.13/bin/python ] || "$$python" -m venv .venv-3.13; \
	.venv-3.13/bin/python -m pip install --quiet uv; \
	.venv-3.13/bin/uv pip install --quiet --python .venv-3.13/bin/python --editable '.[test]'; \
	$(MAKE) --no-print-directory $(or $(WITH),numerical-tests) PY=.venv-3.13/bin/python

fuzz-tests: install      ## the tests that draw their examples, ROUNDS times with others; prints each seed
	set -e; for round in $$(seq $(ROUNDS)); do \
	  seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
	  echo "== round $$round: pytest --hypothesis-profile=fresh --hypothesis-seed=$$seed"; \
	  $(RUN) -m pytest -m 'hypothesis and not real and not scale' -n auto --dist loadgroup --hypothesis-profile=fresh --hypothesis-seed=$$seed; \
	done

fuzz: install            ## INPUTS broken files of each format to what reads them; the table goes to $(FUZZ)
	$(RUN) -m tests.fuzz.run --inputs $(INPUTS) --json $(FUZZ)

real: real-data          ## all that make test leaves out, but for scale; stores break at every place, rather than at every fourth
	$(RUN) -m pytest -m 'not real and not scale' -n auto --dist loadgroup --thorough --kills $(KILLS) $(BROKEN)
	$(MAKE) --no-print-directory slow LEAVE_OUT='$(BROKEN) $(LEAVE_OUT)'

real-data: install       ## checks on the real data in $COCO19, skipped where there is none
	$(RUN) -m pytest -m 'real and not scale' -n auto --dist loadscope --kills $(KILLS)

slow: install            ## tests of seconds each, but for those in LEAVE_OUT
	$(RUN) -m pytest -m 'slow and not scale' -n auto --dist loadgroup --kills $(KILLS) $(addprefix --ignore=,$(LEAVE_OUT))

scale: scale-install     ## tests of clusters, object stores and large tables: minutes, and gigabytes of disk
	$(RUN) -m pytest -m scale -n 0

lint: install            ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:                   ## remove the environment and what the demo made
	rm -rf $(VENV) .venv-3.13 demo
