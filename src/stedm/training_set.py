"""Which patch files a stage may read: those of the slides that have a role in a split."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from stedm.splits import read_split, slides_of
from stedm.store import PatchFile, patch_file

TRAINING_ROLES = ("annotated", "unannotated")


def files_of(split: Path, patches: Path, *roles: str) -> list[PatchFile]:
    """Patch files of the slides with one of these roles, in the order of the slides' names.

    Args:
        split: table of roles.
        patches: folder of patch files.
        roles: without any, those of the patients that trainings may see.
    """
    return [patch_file(patches, slide) for slide in sorted(slides_of(read_split(split), *(roles or TRAINING_ROLES)))]


def by_patient(files: Iterable[PatchFile]) -> dict[str, list[PatchFile]]:
    """The files of each patient, in the order of the patients' names."""
    patients: dict[str, list[PatchFile]] = {}
    for file in files:
        patients.setdefault(file.patient, []).append(file)
    return dict(sorted(patients.items()))


def fingerprints(files: Iterable[PatchFile]) -> dict[str, str]:
    """Fingerprint of each slide's patch file, as provenance lists inputs."""
    return {file.slide: file.fingerprint for file in files}


class PatchSampler:
    """Samples patients alike, then a patient's slides alike, then a slide's patches alike.

    However many slides or patches a patient has, it weighs as much as any other.

    Args:
        files: patch files.
        usable: (N,) bool, the patches of a file that may be sampled; slides and patients without any are left out.
    """

    def __init__(self, files: Iterable[PatchFile], usable: Callable[[PatchFile], np.ndarray]):
        self.patients: list[list[tuple[PatchFile, np.ndarray]]] = []
        for slides in by_patient(files).values():
            places = [(file, np.flatnonzero(usable(file))) for file in slides]
            if places := [(file, indices) for file, indices in places if len(indices)]:
                self.patients.append(places)

    def sample(self, rng: np.random.Generator) -> tuple[PatchFile, int]:
        """A slide's patch file, and the patch's index in it."""
        slides = self.patients[rng.integers(len(self.patients))]
        file, indices = slides[rng.integers(len(slides))]
        return file, int(rng.choice(indices))
