# Every target works from a fresh clone with Python 3.11 or newer and nothing else.
.DEFAULT_GOAL := help
.PHONY: help run requirements test test-long test-seeds test-stories test-times simulate coverage lint format bench sbom clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet install
UV := uv==0.13.9
# More arguments for the program behind a target, say `make test ARGS="-k cancel -x"`.
ARGS ?=

# Some images set it. Then every process compiles our code again, and pytest rewrites each test.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

# The stamps hold what was installed: pip runs again only when a requirements file has changed.
.venv/.made:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv || { echo "Python cannot make a virtual environment here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

.venv/.run: requirements-local.txt | .venv/.made
	@echo "Installing requirements-local.txt (once, about a minute) ..."
	@$(PIP) --require-hashes -r requirements-local.txt
	@touch $@

.venv/.dev: requirements-dev.txt | .venv/.made
	@echo "Installing requirements-dev.txt (once, about a minute) ..."
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@ .venv/.run

run: .venv/.run ## the whole back office on embedded parts (PORT, SIMULATOR_PORT); Ctrl-C stops it
	@exec $(PY) -m backoffice.local.run

# Each .in file names what we need ourselves, its .txt file the whole closure with hashes, for every platform.
requirements: | .venv/.made ## writes requirements*.txt from requirements*.in (ARGS=--upgrade: with newer versions of the rest)
	@$(PIP) $(UV)
	@for name in requirements requirements-local requirements-dev; do \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
			--custom-compile-command "make requirements" $(ARGS) $$name.in --output-file $$name.txt || exit 1; done

# Schemathesis makes its tests while pytest collects, in each process, and all of them are long.
QUICK := -n 2 --dist worksteal -m "not long and not testnet" -p no:schemathesis --ignore=tests/exchanges/simulator/server/test_openapi.py

test: .venv/.dev ## the suite without what takes seconds
	$(PY) -m pytest $(QUICK) $(ARGS)

test-long: test-seeds test-stories test-times ## the rest: stacks of processes, browsers, seeds, large books

# The long tests that only compute.
SEEDED := tests/exchanges/simulator/engine tests/simulation tests/backoffice/desk/test_hostile_addresses.py \
	tests/orders/gate tests/orders/recording tests/exchanges/simulator/server/test_openapi.py
# The long tests that assert times, measure them, or depend on them: each has the machine to itself.
TIMED := $(addprefix tests/scenarios/test_,breaker.py crowd.py database_outages.py guard_rails.py lag.py many_accounts.py silent_broker.py) \
	tests/orders/test_book_identity.py tests/orders/reconciliation/test_compare.py tests/orders/positions/test_store_at_scale.py \
	tests/exchanges/simulator/server/test_load.py tests/backoffice/local/test_make_run.py \
	$(addprefix tests/backoffice/desk/lists/test_,exports.py many_orders.py)
# Pytest's 5: ARGS chose none of these.
NONE_OF_THESE = [ $$? -eq 5 ]

test-seeds: .venv/.dev
	$(PY) -m pytest -n 2 --dist worksteal -m "long and not testnet" $(SEEDED) $(ARGS) || $(NONE_OF_THESE)

# The others, most of which start a whole stack. --dist loadfile, because the stories of a module share its workers.
test-stories: .venv/.dev
	$(PY) -m pytest -n 2 --dist loadfile -m "long and not testnet" $(addprefix --ignore=,$(SEEDED) $(TIMED)) $(ARGS) || $(NONE_OF_THESE)

test-times: .venv/.dev
	$(PY) -m pytest -m "long and not testnet" $(TIMED) $(ARGS) || $(NONE_OF_THESE)

simulate: .venv/.dev ## the seeded simulation of faults, for an hour (ARGS="--minutes 5 --seed 7000")
	$(PY) manage.py simulate_faults --jobs 2 --minutes 60 $(ARGS)

# --dist worksteal as in `test`; the processes that the tests start are measured as well.
coverage: .venv/.dev ## the suite's branch coverage: a table, and var/coverage/html
	@rm -rf var/coverage && mkdir -p var/coverage
	$(PY) -m pytest $(QUICK) --cov --cov-report=term --cov-report=html $(ARGS)

# What a production installation sets (see .env.example); the values are made up.
PRODUCTION := DEBUG=off SECRET_KEY=made-up-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789 ALLOWED_HOSTS=backoffice.example \
	CSRF_TRUSTED_ORIGINS=https://backoffice.example SECURE_SSL=on TRUSTED_PROXIES=1

# These targets ask no database: nothing listens at this address.
NO_DATABASE := DATABASE_URL=postgres://nobody@127.0.0.1:1/none

lint: .venv/.dev ## format, lint, types, import rules, security, migrations, deployment checks
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive backoffice exchanges orders manage.py
	$(NO_DATABASE) $(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(NO_DATABASE) $(PY) manage.py check --deploy --fail-level WARNING

format: .venv/.dev ## rewrites the code in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

sbom: .venv/.dev ## the software bill of materials of a production installation: var/sbom.json (CycloneDX)
	@mkdir -p var
	.venv/bin/cyclonedx-py requirements requirements.txt --output-reproducible --of JSON -o var/sbom.json
	@$(PY) -c "import json; print('var/sbom.json:', len(json.load(open('var/sbom.json'))['components']), 'components')"

bench: .venv/.dev ## the benchmarks: a table, and var/bench.json
	$(PY) -m tests.benchmarks $(ARGS)

clean: ## forgets the demo's data, the caches and the environment
	rm -rf var .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
