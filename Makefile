# Everything is set up in .venv, and nothing outside it is touched.
# The newest Python that is supported and starts: 3.13, 3.12, 3.11 or 3.10.
PYTHON ?= $(or $(firstword $(foreach minor,13 12 11 10,\
  $(shell python3.$(minor) -c "print('python3.$(minor)')" 2>/dev/null))),python3)
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
BIN := .venv/bin

.PHONY: help setup demo test test-fast stress test-lowest lint types imports check clean

help:
	@echo "make demo       QAN learns on handwritten digits and is compared with other schedules"
	@echo "make test       all tests but the stress trials"
	@echo "make test-fast  the fast part of them"
	@echo "make stress     long trials: whole runs killed, files damaged, writers broken off"
	@echo "make check      lint, types and the import contract"

.venv/.installed: pyproject.toml setup.py
	$(PYTHON) -c "import sys; v = sys.version_info; \
	  (3, 10) <= v[:2] <= (3, 13) or sys.exit('keras_qan needs Python 3.10 to 3.13, and this is %d.%d. ' \
	  'Name one: make PYTHON=python3.12 $(MAKECMDGOALS)' % v[:2])"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) --editable ".[dev]"
	# TF-Agents' own requirements end with Python 3.11; it works beside those of the extra `learn`.
	$(BIN)/$(PIP_INSTALL) --no-deps tf-agents==0.19.0
	@touch $@

setup: .venv/.installed

demo: setup
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python scripts/train_qan.py --flagfile=configs/digits_lr.flags

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not stress"

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not stress"

# The tests marked so, and tests/stress: faults injected into whole runs.
stress: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m stress

# The lowest versions that pyproject.toml admits, in an environment of their own.
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --quiet --editable ".[dev]" \
	  --override requirements/lowest.txt
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --quiet --no-deps tf-agents==0.19.0
	.venv-lowest/bin/python -m pytest -m "not slow and not stress"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

check: lint types imports

clean:
	rm -rf .venv build *.egg-info
