# Everything that a newcomer types: `make demo` and `make test`. `make help` lists the rest.
# `make VENV=<folder> …` uses another environment than .venv.

ifneq ($(findstring /,$(firstword $(MAKEFILE_LIST))),)
# Called as `make -f path/to/Makefile`: go there first.
%:
	@$(MAKE) --no-print-directory -C "$(dir $(firstword $(MAKEFILE_LIST)))" $@
else

VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
export OMP_WAIT_POLICY := PASSIVE

SNAKEMAKE := snakemake --profile profiles/local
# One run at a time in this folder; then a lock that a killed run left behind can go.
ALONE := $(if $(shell command -v flock),flock --nonblock --conflict-exit-code 9 .snakemake.lock)

.DEFAULT_GOAL := help
.PHONY: help demo report test test-slurm lint clean environment

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: environment  ## run the default study (20 minutes on two cores) and print its report and table
	@$(ALONE) sh -c '$(if $(ALONE),rmdir .snakemake/locks 2>/dev/null || $(SNAKEMAKE) --quiet all --unlock;) $(SNAKEMAKE)' \
		|| { [ $$? -ne 9 ] || echo 'A run of this folder, or a job that it left behind, is alive; wait for it, or stop it.' >&2; exit 1; }
	@$(MAKE) --no-print-directory report

report: environment  ## write the report of the default study and print its table
	@snakemake --quiet all --report results/demo/report.html
	@stedm statistics show results/demo/tables/arms.csv
	@echo "Report: $(CURDIR)/results/demo/report.html"

test: environment lint  ## lint, then the test suite
	@pytest -m "not slurm"

# Without root or apt the tests are skipped and say why.
test-slurm: environment  ## the study on a real SLURM of one machine; as root on Debian, whose packages it installs
	@if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then python tests/slurm/testbed.py install; \
		else echo 'Not root, or no apt-get here: SLURM is not installed.' >&2; fi
	@pytest tests/slurm

lint: environment  ## ruff, mypy, snakefmt and snakemake --lint
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

clean:  ## remove the environment, caches and the results of the default study
	rm -rf $(VENV) results/demo .snakemake .snakemake.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis

environment: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@found=; for python in python3.13 python3.12 python3.11 python3.14 python3 python; do \
		if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'Python 3.11 or newer (with venv) is needed and was not found on the PATH. Install it: on Debian and Ubuntu' \
			'`apt install python3 python3-venv`, elsewhere from https://www.python.org/downloads/, and run make again.' >&2; \
		exit 1; \
	fi; \
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $$found -m venv --clear $(VENV)
	@echo 'Installing the pinned packages into $(VENV) (minutes)'
	@python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

endif
