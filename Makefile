# Every target sets up what it needs: a virtual environment in .venv, rebuilt when a dependency changes.
# Another Python: `make test PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo evaluate test long coverage check docs bench screenshots torture audit clean
.DEFAULT_GOAL := test

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1: /p' $(MAKEFILE_LIST) | while IFS=: read -r name text; do \
		printf '  make %-12s%s\n' "$$name" "$$text"; done

demo: $(INSTALLED)  ## collect, train both models and dream, with the defaults of each script
	$(BIN)/python scripts/collect.py
	$(BIN)/python scripts/train_tokenizer.py
	$(BIN)/python scripts/train_prior.py
	$(BIN)/python scripts/rollout.py

evaluate: $(INSTALLED)  ## measure the demo's world: runs/demo/report.html
	$(BIN)/python scripts/evaluate.py

test: $(INSTALLED)  ## the tests, on two processes; those that take minutes are `make long`
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not long"

long: $(INSTALLED)  ## the tests that take minutes: kills of trainings, a wheel in an empty folder, a whole report
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m long

coverage: $(INSTALLED)  ## the lines that the tests reach, by file; coverage/index.html
	$(BIN)/python -m pytest -q -n 2 --cov --cov-report=term:skip-covered --cov-report=html:coverage

bench: $(INSTALLED)  ## the table of docs/results/speed.md; nothing else should run beside it
	$(BIN)/python benchmarks/run.py

screenshots: $(INSTALLED)  ## docs/play.png and docs/report.png, from the pages in headless Chromium
	$(BIN)/python -m tests.screenshots_report
	WORLDMODEL_SCREENSHOTS=docs $(BIN)/python -m pytest -q -k picture_of_the_documentation tests/test_play_page.py

check: $(INSTALLED)  ## linter, format, types, import rules, and the laws of folders and settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_settings.py

docs: $(INSTALLED)  ## the documentation site, warnings are errors; build/docs/index.html
	$(BIN)/python docs/_ext/tables.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

torture: $(INSTALLED)  ## kills, crashes and full disks at length, and what was lost; a quarter of an hour, torture.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture

audit: $(INSTALLED)  ## known vulnerabilities of the exact versions that are tested
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:  ## remove what was built, never what was collected or trained (runs/)
	rm -rf .venv .venv-audit build dist coverage .coverage *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "worldmodel needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" \
		|| { echo "$(PYTHON) cannot make virtual environments (on Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,atari]"
	@touch $@
