"""`python -m stedm.cli`, which torchrun starts in each process of a training."""

import sys

from stedm.cli import main

sys.exit(main())
