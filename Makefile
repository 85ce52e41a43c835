# Every goal sets up what it needs, works twice in a row and from any folder (make -C).
SHELL := /bin/bash
HERE := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PYTHON ?= python3.11
VENV := $(HERE)/.venv
BIN := $(VENV)/bin
APT := qemu-user qemu-system-arm e2fsprogs gcc g++ libc6-dev
# Tests of one file stay together: they share what they make. A worker takes up to 2 GB.
WORKERS ?= $(shell nproc | awk '{print ($$1 < 4) ? $$1 : 4}')
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup setup-dev demo test bench lint clean

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

# The lock files pin every package; hwkit itself is installed editable on top.
# torch comes first and by itself, so that a CPU build can be put in its place beforehand.
$(VENV)/.ready: $(HERE)/pyproject.toml $(HERE)/requirements.lock $(HERE)/tools/system_packages.sh
	@$(HERE)/tools/system_packages.sh $(APT)
	@command -v $(PYTHON) >/dev/null || { echo "missing: Python 3.11 (set PYTHON=/path/to/python3.11)"; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) ..."
	@$(BIN)/pip install --quiet torch==2.13.0
	@$(BIN)/pip install --quiet --no-deps -r $(HERE)/requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e $(HERE)
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready $(HERE)/requirements-dev.lock
	@$(HERE)/tools/system_packages.sh tcl
	@echo "installing what the tests need ..."
	@$(BIN)/pip install --quiet --no-deps -r $(HERE)/requirements-dev.lock
	@touch $@

# The main job: a neural-ODE network compiled for a Raspberry Pi 4, executed as ARM code, judged.
demo: setup
	@$(BIN)/hwkit board make qemu-rpi4
	@cd $(HERE) && $(BIN)/hwkit deploy --target rpi4 dsodenet --budget examples/budget.toml

test: setup-dev
	@$(BIN)/hwkit board make qemu-rpi4
	@$(BIN)/hwkit board make virtual-rpi4
	@$(BIN)/hwkit toolchain install finn
	@cd $(HERE) && $(BIN)/ruff check . && $(BIN)/mypy && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: setup-dev
	@$(BIN)/hwkit board make qemu-rpi4
	@$(BIN)/hwkit board make virtual-rpi4
	@$(BIN)/hwkit board make qemu-zcu104-ps
	@cd $(HERE) && $(BIN)/python -m bench

lint: setup-dev
	@cd $(HERE) && $(BIN)/ruff check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) $(HERE)/hwkit-out
