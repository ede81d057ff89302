# Everything runs in .venv, which `make setup` fills with the pinned development set.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test check format soak bench lock

setup: $(VENV)/dev.stamp

$(VENV)/dev.stamp: requirements/dev.txt requirements/torch.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	touch $@

# Faults have bounds in seconds, and the machine for themselves; the rest goes side by side, where
# threads that wait for each other busily (OpenMP's) would only be in each other's way.
test: setup ## every test except the soaks
	$(BIN)/python -m pytest -m "not soak" tests/faults
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/faults

check: setup ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: setup ## the heavy tests: about an hour; see docs/faults.md
	$(BIN)/python -m pytest -m soak

bench: setup ## speed, fairness, fidelity and memory, measured and printed (half an hour)
	$(BIN)/python -m bench

lock: ## pin pyproject.toml's dependencies anew (needs uv)
	requirements/lock.sh
