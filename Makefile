# Every goal sets up what it needs, works twice in a row and from any folder (make -C).
SHELL := /bin/bash
HERE := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PYTHON ?= python3.11
VENV := $(HERE)/.venv
BIN := $(VENV)/bin
APT := qemu-user mmdebstrap gcc libc6-dev
export HWKIT_CACHE ?= $(HERE)/.cache/hwkit
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test bench lint clean

setup: $(VENV)/.ready

# requirements.lock pins every package; hwkit itself is installed editable on top.
$(VENV)/.ready: $(HERE)/pyproject.toml $(HERE)/requirements.lock $(HERE)/tools/system_packages.sh
	@$(HERE)/tools/system_packages.sh $(APT)
	@command -v $(PYTHON) >/dev/null || { echo "missing: Python 3.11 (set PYTHON=/path/to/python3.11)"; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) ..."
	@$(BIN)/pip install --quiet torch==2.13.0
	@$(BIN)/pip install --quiet -r $(HERE)/requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e $(HERE)
	@touch $@

# The main job: a neural-ODE network compiled for a Raspberry Pi 4, executed as ARM code, judged.
demo: setup
	@$(BIN)/hwkit board make qemu-rpi4
	@cd $(HERE) && $(BIN)/hwkit deploy --target rpi4 dsodenet --budget examples/budget.toml

test: setup
	@$(BIN)/hwkit board make qemu-rpi4
	@cd $(HERE) && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python -m pytest

bench: setup
	@$(BIN)/hwkit board make qemu-rpi4
	@cd $(HERE) && $(BIN)/python -m bench

lint: setup
	@cd $(HERE) && $(BIN)/ruff check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) $(HERE)/.cache $(HERE)/hwkit-out
