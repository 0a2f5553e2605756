"""BCSS: 151 regions of TCGA breast cancer slides with masks of 21 tissues (Amgad et al. 2019, Bioinformatics 35:3461).

Layout: `rgbs_colorNormalized/` (or `images/`, as the authors' script writes it) and `masks/`, with the same file names
`TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500.png`. `meta/gtruth_codes.tsv` explains the mask values.
"""

import re
from pathlib import Path

from stedm.datasets.found import Found, tcga_patient
from stedm.sheet import Slide

NAME = re.compile(r"TCGA-(?P<site>\w\w)-\w{4}-.*_MPP-(?P<mpp>\d+\.\d+)")
TEST_SITES = {"OL", "LL", "E2", "EW", "GM", "S3"}
"""Institutions of the authors' test set."""


def find(folder: Path) -> Found:
    """Regions, with patient and resolution read from their names; the authors' test institutions form the test set."""
    found = Found()
    images = found.by_name([*folder.glob("rgbs_colorNormalized/*.png"), *folder.glob("images/*.png")])
    masks = found.by_name(folder.glob("masks/*.png"))
    for name in sorted(images | masks):
        parts = NAME.fullmatch(name)
        if parts is None:
            found.problems.append(
                f"{images.get(name, masks.get(name))}: the name must give patient and resolution, as in"
                " TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500.png"
            )
        elif name not in masks:
            found.problems.append(f"{images[name]}: has no mask {folder / 'masks' / name}.png")
        elif name not in images:
            found.missing.append(f"{masks[name]}: has no image of the same name in rgbs_colorNormalized/")
        else:
            role = "test" if parts["site"] in TEST_SITES else "annotated"
            mpp = float(parts["mpp"])
            found.slides.append(Slide(name, tcga_patient(name), images[name], masks[name], mpp=mpp, split=role))
    return found
