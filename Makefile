# Everything is set up in .venv, and nothing outside it is touched.
# The Pythons that are supported and start, the newest first; and those that pyenv has besides.
starts = $(shell python3.$(1) -c "print('python3.$(1)')" 2>/dev/null)
PYTHONS := $(foreach minor,13 12 11 10,$(call starts,$(minor)))
ALL_PYTHONS := $(foreach minor,13 12 11 10,$(firstword $(call starts,$(minor)) \
  $(wildcard $(HOME)/.pyenv/versions/3.$(minor).*/bin/python3.$(minor))))
PYTHON ?= $(or $(firstword $(PYTHONS)),python3)
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
BIN := .venv/bin

.PHONY: help setup user demo demo-learn test coverage test-fast stress test-lowest test-pythons bench bench-fast docs package lint types imports check clean

help:
	@echo "make demo       a bare QANCallback beside other schedules on real digits, with a report"
	@echo "make demo-learn  QAN learns from nothing on digits, and is compared; many minutes"
	@echo "make test       all tests but the stress trials"
	@echo "make test-fast  the fast part of them"
	@echo "make stress     long trials: whole runs killed, files damaged, writers broken off"
	@echo "make test-pythons  a smoke test on the oldest and the newest Python that is found"
	@echo "make bench-fast README's figures on one seed"
	@echo "make bench      the benchmarks behind docs/results.md and README, resumable; hours"
	@echo "make docs       the documentation as static pages in site/"
	@echo "make package    wheel and sdist, built, checked and tried in an environment of their own"
	@echo "make check      lint, types and the import contract"

# What a user needs: Keras on TensorFlow, and matplotlib for the figures.
.venv/.user: pyproject.toml setup.py
	@echo "Setting up .venv with TensorFlow and matplotlib, once"
	@$(PYTHON) -c "import sys; v = sys.version_info; \
	  (3, 10) <= v[:2] <= (3, 13) or sys.exit('keras_qan needs Python 3.10 to 3.13, and this is %d.%d. ' \
	  'Name one: make PYTHON=python3.12 $(MAKECMDGOALS)' % v[:2])"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/$(PIP_INSTALL) --editable ".[tensorflow,plots]"
	@touch $@

# What a contributor needs.
.venv/.installed: .venv/.user
	$(BIN)/$(PIP_INSTALL) --editable ".[dev]"
	# TF-Agents' own requirements end with Python 3.11; it works beside those of the extra `learn`.
	$(BIN)/$(PIP_INSTALL) --no-deps tf-agents==0.19.0
	@touch $@

setup: .venv/.installed

user: .venv/.user

demo: user
	@echo "Training a small CNN on digits 39 times, which takes about a minute"
	@$(BIN)/python scripts/compare_schedules.py --flagfile=configs/digits_demo.flags

demo-learn: setup
	$(BIN)/python scripts/train_qan.py --flagfile=configs/digits_lr.flags

# Files in their order: by the number of tests, files of few and long ones would come last, one core idle.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not stress"

# The share of lines that the tests run; slower than `make test`.
coverage: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not stress" --cov --cov-report=term:skip-covered

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not stress"

# The tests marked so, and tests/stress: faults injected into whole runs.
stress: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m stress

# Trainings with a bare callback, curve stopping and net2net on the oldest and the newest Python
# that is found, each with the base install and TensorFlow in an environment of its own.
SMOKE := bare_callback rescue exact_restore steps_per_execution curve_stopping net2net
test-pythons:
	set -e; for python in $(sort $(firstword $(ALL_PYTHONS)) $(lastword $(ALL_PYTHONS))); do \
	  venv=.venv-smoke-$$($$python -c "import sys; print('%d.%d' % sys.version_info[:2])"); \
	  test -x $$venv/bin/python || $$python -m venv $$venv; \
	  $$venv/bin/$(PIP_INSTALL) --no-compile --editable ".[tensorflow]"; \
	  (cd tests && PYTHONPATH=.. KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 \
	    ../$$venv/bin/python -m helpers.backend_checks --strict $(SMOKE)); \
	done

# The lowest versions that pyproject.toml admits, in an environment of their own.
test-lowest:
	test -x .venv-lowest/bin/python || $(or $(lastword $(PYTHONS)),python3) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --quiet --editable ".[dev]" \
	  --override requirements/lowest.txt
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --quiet --no-deps tf-agents==0.19.0
	.venv-lowest/bin/python -m pytest -m "not slow and not stress"

# README's figures, on one seed: the table of its tasks, ten other networks, and the habits. What was
# measured is kept and not done again. MNIST and CIFAR-10 are read from TFDS_DATA_DIR.
ZERO_SHOT = $(BIN)/python benchmarks/versus_schedules/zero_shot.py
bench-fast: setup
	KERAS_BACKEND=jax $(ZERO_SHOT) --horizons=400 --seeds=1 --workers=2 --out=runs/benchmarks/fast/jax
	$(ZERO_SHOT) --steps=240 --arms=none,qan --factors=1 --out=runs/benchmarks/fast/zero_shot
	$(BIN)/python benchmarks/habits/run.py --seeds=0 --folder=runs/benchmarks/fast/habits

# The benchmarks behind the table at the head of docs/results.md, and what README takes from it. Hours;
# each goes on where it was, and does nothing where all its lines are there.
bench: setup
	$(BIN)/python benchmarks/habits/run.py
	$(BIN)/python benchmarks/rally/run.py --part=growth
	$(ZERO_SHOT) --steps=240 --seeds=3 --arms=none,qan --write
	KERAS_BACKEND=jax $(ZERO_SHOT) --horizons=400,2000,8000,20000 --workers=2 --write \
	  --out=runs/benchmarks/zero_shot_jax
	$(BIN)/python benchmarks/pages.py

# The site, in site/: guides, results and the reference of every public name.
docs: setup
	$(BIN)/mkdocs build --quiet
	@echo "Open site/index.html"

# Wheel and sdist: built, checked, and the README's example run with the wheel in an environment that
# holds TensorFlow and nothing of ours; `make test-pythons` goes on with it.
package: setup
	rm -rf dist
	$(BIN)/python -m build --outdir dist . >/dev/null
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	set -e; venv=.venv-smoke-$$($(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])"); \
	test -x $$venv/bin/python || $(PYTHON) -m venv $$venv; \
	$$venv/bin/$(PIP_INSTALL) --no-compile "$$(ls dist/*.whl)[tensorflow]"; \
	$$venv/bin/$(PIP_INSTALL) --force-reinstall --no-deps dist/*.whl; \
	cd tests && PYTHONPATH= TF_CPP_MIN_LOG_LEVEL=3 ../$$venv/bin/python -m helpers.readme_example

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

check: lint types imports

clean:
	rm -rf .venv .venv-smoke-* build dist site *.egg-info
