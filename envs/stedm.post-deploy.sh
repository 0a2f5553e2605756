#!/usr/bin/env bash
# Snakemake runs this in the environment built from stedm.yaml, in the folder from which it was called: the checkout, or
# else the one that STEDM_CHECKOUT names.
set -euo pipefail
python -m pip install --no-deps --editable "${STEDM_CHECKOUT:-.}"
