# Every target makes its own virtual environment first; a second run finds it ready.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help venv environment demo test check tests system bench fuzz fuzz-api docs messages screenshots image-test release lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST)

venv:  ## make .venv with everything: programs, tests, checks
	@$(PYTHON) tools/bootstrap.py --only dev

environment:
	@$(PYTHON) tools/bootstrap.py --only run

demo: environment  ## a site with three controllers, a hub and a day of taps, live on this terminal
	@$(BIN)/drempel-sim demo $(ARGS)

test: venv system check tests  ## lint, types, contracts and every test

check: venv  ## ruff, formatting, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: venv
	$(BIN)/python -m tools.suite -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

system: venv
	@bash tools/system.sh

bench: venv  ## measure taps, ingest and blocks; prints tables, writes build/bench.json
	@$(BIN)/python -m bench $(ARGS)

fuzz: venv  ## a million inputs for everything that reads foreign bytes
	@$(PYTHON) tools/bootstrap.py --only fuzz
	@$(BIN)/python -m tests.fuzz $(ARGS)

fuzz-api: venv  ## the hub's interface against its own description, at length
	@DREMPEL_HYPOTHESIS=long $(BIN)/pytest tests/hub/test_fuzz_api.py $(ARGS)

docs: venv  ## write docs/decision.md and the tables of routes from the code
	@$(BIN)/python tools/decision_table.py
	@$(BIN)/python tools/route_table.py

messages: venv  ## bring the translators' files up to date with the texts of the pages
	@$(BIN)/python -m tools.messages

screenshots: venv system  ## pictures of every page in build/screenshots
	@$(BIN)/python -m tools.screenshots

image-test: venv system  ## a Debian made a controller from nothing, started, tapped at, updated; needs root
	@DREMPEL_IMAGE_TEST=1 $(BIN)/pytest tests/firmware_config/test_started_machine.py $(ARGS)

release: venv  ## build/drempel-VERSION.tar.gz: the controllers' program, ready to be signed
	@$(BIN)/python -m tools.release $(ARGS)

lock: venv  ## resolve the requirements again, newest versions the bounds allow
	@bash tools/lock.sh

clean:  ## remove what the targets made, the environment included
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
