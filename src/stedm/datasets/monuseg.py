"""MoNuSeg: 51 images of 1000×1000 px at 40× with all nuclei outlined (Kumar et al. 2020, IEEE TMI 39:1380).

Layout: `MoNuSeg 2018 Training Data/` with `Tissue Images/*.tif` and `Annotations/*.xml` (Aperio ImageScope), and
`MoNuSegTestData/` with both kinds of files together.
"""

from pathlib import Path

from stedm.datasets.found import Found, tcga_patient
from stedm.sheet import Slide

MPP = 0.25
"""µm per pixel of the 40× objective; the images do not record it."""


def find(folder: Path) -> Found:
    """Images with their TCGA patient; the challenge's test images form the test set."""
    found = Found()
    images, outlines = found.by_name(folder.rglob("*.tif")), found.by_name(folder.rglob("*.xml"))
    for name in sorted(images | outlines):
        if name not in outlines:
            found.problems.append(f"{images[name]}: has no annotation {name}.xml")
        elif name not in images:
            found.missing.append(f"{outlines[name]}: has no image {name}.tif")
        else:
            within = images[name].relative_to(folder).parts[:-1]
            role = "test" if any("test" in part.lower() for part in within) else "annotated"
            found.slides.append(Slide(name, tcga_patient(name), images[name], outlines[name], mpp=MPP, split=role))
    return found
