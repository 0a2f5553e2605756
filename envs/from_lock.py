"""Write stedm.yaml, the conda environment, with the pins of requirements.lock: `python envs/from_lock.py`."""

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """\
# Conda environment for `snakemake --sdm conda`, for sites where the jobs cannot see the virtual environment that make
# builds. Written by envs/from_lock.py: same pins as requirements.lock. It has not been solved by conda in our tests.
# The package itself is not in it: stedm.post-deploy.sh beside it installs the checkout.
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def environment(lock: str) -> str:
    """The environment file for the text of a lock file."""
    pins = [line.strip() for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return HEAD + "".join(f'      - "{pin}"\n' for pin in pins)


if __name__ == "__main__":
    lock = (HERE.parent / "requirements.lock").read_text(encoding="utf-8")
    (HERE / "stedm.yaml").write_text(environment(lock), encoding="utf-8")
