# Start with `make demo` and `make test`; `make help` lists all targets.
# `make VENV=<folder> …` uses that environment instead of .venv.

MAKEFILE := $(strip $(MAKEFILE_LIST))
ifneq ($(findstring /,$(MAKEFILE)),)
# Called as `make -f path/to/Makefile`: change to its folder first.
%:
	@$(MAKE) --no-print-directory -C "$(patsubst %/Makefile,%,$(MAKEFILE))" $@
else

VENV ?= .venv
ifneq ($(words $(VENV)),1)
$(error VENV must be one folder without spaces in its name)
endif
export PATH := $(abspath $(VENV))/bin:$(PATH)
export OMP_WAIT_POLICY := PASSIVE

SNAKEMAKE := snakemake --profile profiles/local
# Only one run at a time in this folder, so that any lock in it is left over from a killed run and can be removed.
ALONE := $(if $(shell command -v flock),flock --nonblock --conflict-exit-code 9 .snakemake.lock)

.DEFAULT_GOAL := help
.PHONY: help demo report test test-slurm test-gpu lint docs clean environment

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: environment  ## run the default study, print its answer
	@$(ALONE) sh -c '$(if $(ALONE),rmdir .snakemake/locks 2>/dev/null || $(SNAKEMAKE) --quiet all --unlock;) $(SNAKEMAKE)' \
		|| { [ $$? -ne 9 ] || echo 'Another run, or a job that it left behind, is still active in this folder; wait for it, or stop it.' >&2; exit 1; }
	@echo "The answer with its figures and details: $(CURDIR)/results/demo/report.html"

report: environment  ## print the answer of the default study, and write Snakemake's report of its jobs
	@snakemake --quiet all --report results/demo/workflow.html
	@cat results/demo/summary.md
	@echo "Jobs and their run times: $(CURDIR)/results/demo/workflow.html"

test: environment lint  ## lint, then run the test suite
	@pytest -m "not slurm and not gpu"

# Without root or apt, the tests are skipped and say why.
test-slurm: environment  ## test on a real single-machine SLURM, installed from Debian packages (as root)
	@if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then python tests/slurm/testbed.py install; \
		else echo 'Not root, or no apt-get here: SLURM is not installed.' >&2; fi
	@pytest tests/slurm

# Without CUDA, the tests are skipped and say why.
test-gpu: environment  ## test on a GPU what the other tests cannot
	@pytest tests/gpu

lint: environment  ## run ruff, mypy, snakefmt and snakemake --lint
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

docs: environment  ## write the documentation as a site, site/index.html
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html"

clean:  ## delete the environment, the caches and the results of the default study
	rm -rf '$(VENV)' results/demo site .snakemake .snakemake.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis

environment: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@found=; for python in python3.13 python3.12 python3.11 python3.14 python3 python; do \
		if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'Python 3.11 or newer (with venv) is needed and was not found on the PATH. Install it (Debian and Ubuntu:' \
			'`apt install python3 python3-venv`; elsewhere: https://www.python.org/downloads/) and run make again.' >&2; \
		exit 1; \
	fi; \
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $$found -m venv --clear $(VENV)
	@echo 'Installing the pinned packages into $(VENV); this takes a few minutes'
	@python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

endif
