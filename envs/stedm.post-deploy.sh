#!/usr/bin/env bash
# Snakemake runs this in the environment that it made of stedm.yaml, from the folder that it was called in: the checkout.
set -euo pipefail
python -m pip install --no-deps --editable .
