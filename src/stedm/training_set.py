"""Which patch files a stage may read: those of the slides that have a role in a split."""

from collections.abc import Iterable
from pathlib import Path

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
