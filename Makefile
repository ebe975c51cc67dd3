# demo, test and check each set up what they need on a fresh machine: Python 3.11+, make and git.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Half of the tests' time they wait for jobs, alarms and time-outs: more workers than cores keep the cores busy.
WORKERS ?= 6
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

# Containers set it, and every process would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast check audit clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/invoke demo

test: $(READY)
	@echo "All tests: about 17 minutes on two cores. Those without boxes, jobs and servers, in about 5: make test-fast"
	$(PYTEST)

test-fast: $(READY)
	@echo "The tests in tests/unit and tests/sandbox: about 5 minutes on two cores."
	$(PYTEST) tests/unit tests/sandbox

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	cd serving && ../$(BIN)/mypy --config-file ../pyproject.toml .
	cd lambda && ../$(BIN)/mypy --config-file ../pyproject.toml .
	cd training && ../$(BIN)/mypy --config-file ../pyproject.toml .
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/python -m tests.vocabulary
	$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive ops iampolicy sandbox bench serving lambda training imaging.py tasks.py

# Known flaws of what is installed in .venv. Without an advisory source it says so, and is no failure.
audit: $(READY) .venv-audit/.ready
	$(BIN)/python -m tests.advisories .venv-audit/bin/pip-audit

clean:
	-$(BIN)/invoke sandbox.down
	rm -rf $(VENV) .venv-sdk .venv-bench .venv-audit .kennel .sandbox

# TORCH_INDEX=URL takes torch and torchvision from that index: a CPU-only one saves several GB.
$(READY): pyproject.toml serving/requirements.txt training/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kennel needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "Setting up $(VENV). To be downloaded, unless pip has it already: torch and torchvision"
	@echo "(200 MB CPU-only; several GB with CUDA, the default index's choice on Linux) and 300 MB of others."
	@echo "For a CPU-only torch: make TORCH_INDEX=URL-of-a-CPU-index $(MAKECMDGOALS)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0 torchvision==0.28.0
	$(BIN)/python -m pip install --quiet -e '.[train,serve,sandbox,demo,report,test,dev]'
	@touch $@

# The SageMaker SDK, for tests/e2e/test_sdk.py: 0.9 GB that nothing else needs, and an older rich, so a venv of its own.
.venv-sdk/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-sdk
	.venv-sdk/bin/python -m pip install --quiet -e '.[sdk]'
	@touch $@

# pip-audit, which needs packages that nothing else does.
.venv-audit/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet -e '.[audit]'
	@touch $@

# What benchmarks are measured against: the AWS CLI, cloudsplaining, flask on gunicorn, LitServe. The AWS CLI pins botocore, so
# a venv of its own; the servers in it run this one's torch.
.venv-bench/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -e '.[bench]'
	@touch $@
