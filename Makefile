# Every target works from a fresh clone with Python 3.11 or newer and nothing else.
.DEFAULT_GOAL := help
.PHONY: help run test test-long lint format bench clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet install
# More arguments for the program behind a target, say `make test ARGS="-k cancel -x"`.
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

# The stamps hold what was installed: pip runs again only when a requirements file has changed.
.venv/.made:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv || { echo "Python cannot make a virtual environment here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

.venv/.run: requirements.txt | .venv/.made
	@echo "Installing requirements.txt (once, about a minute) ..."
	@$(PIP) -r requirements.txt
	@touch $@

.venv/.dev: requirements.txt requirements-dev.txt | .venv/.made
	@echo "Installing requirements-dev.txt (once, about a minute) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@ .venv/.run

run: .venv/.run ## the whole back office on embedded parts (PORT, SIMULATOR_PORT); Ctrl-C stops it
	@exec $(PY) -m backoffice.run

test: .venv/.dev ## the suite, on PostgreSQL and where it matters on SQLite
	$(PY) -m pytest -n 2 --dist worksteal -m "not long and not testnet" $(ARGS)
	DATABASE_URL=sqlite:///var/test.sqlite3 $(PY) -m pytest -n 2 --dist worksteal -m "both_databases and not long and not testnet" $(ARGS) \
		|| { status=$$?; test $$status -eq 5; }  # 5: ARGS selected none of them

test-long: .venv/.dev ## the scenarios that take minutes
	$(PY) -m pytest -n 2 --dist loadfile -m "long and not testnet" $(ARGS)

# What a production installation sets (see .env.example); the values are made up.
PRODUCTION := DEBUG=off SECRET_KEY=made-up-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789 ALLOWED_HOSTS=backoffice.example \
	CSRF_TRUSTED_ORIGINS=https://backoffice.example SECURE_SSL=on

lint: .venv/.dev ## format, lint, types, import rules, security, migrations, deployment checks
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive backoffice exchanges orders manage.py
	DATABASE_URL=sqlite://:memory: $(PY) manage.py makemigrations --check --dry-run
	$(PRODUCTION) DATABASE_URL=sqlite://:memory: $(PY) manage.py check --deploy --fail-level WARNING

format: .venv/.dev ## rewrites the code in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: .venv/.dev ## the benchmarks: a table, and var/bench.json
	$(PY) -m tests.benchmarks $(ARGS)

clean: ## forgets the demo's data, the caches and the environment
	rm -rf var .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
