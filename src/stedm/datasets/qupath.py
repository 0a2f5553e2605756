"""A QuPath project (0.2 and later) with its annotations exported as GeoJSON.

Layout: `project.qpproj`, and anywhere in its folder one GeoJSON file per annotated image, named after the image as
QuPath shows it, with or without the image's own extension (`CMU-1.svs.geojson`, `CMU-1.geojson`). Metadata that the
user assigned to an image in QuPath under the keys `patient`, `group` and `split` go into the sheet.
"""

import json
import os
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from stedm.datasets.found import Found
from stedm.errors import UserError
from stedm.sheet import ROLES, Slide

OWN_FOLDERS = {"data", "classifiers", "scripts"}
"""Folders in a project that belong to QuPath itself."""


@dataclass(frozen=True)
class Entry:
    """An image of a project.

    Attributes:
        name: as QuPath shows it.
        kind: the type of QuPath's image server; `uri` means a file.
        uri: of that file.
        mpp: µm per pixel, if QuPath knows it.
        metadata: assigned by the user.
    """

    name: str
    kind: str
    uri: str
    mpp: float | None
    metadata: dict[str, str]

    @classmethod
    def read(cls, image: dict[str, Any]) -> Self:
        """An entry of the project file. If a file contains several images (`--series`), only the first can be read."""
        builder = image["serverBuilder"]
        kind, arguments = builder["builderType"], builder.get("args") or []
        if "--series" in arguments and (series := arguments[arguments.index("--series") + 1]) != "0":
            kind = f"series {series} of a file"
        width = ((builder.get("metadata") or {}).get("pixelCalibration") or {}).get("pixelWidth") or {}
        mpp = float(width["value"]) if width.get("unit") == "µm" else None
        metadata = {key.lower(): str(value) for key, value in (image.get("metadata") or {}).items()}
        return cls(image["imageName"], kind, builder.get("uri", ""), mpp, metadata)


def find(folder: Path) -> Found:
    """Images of a project, with their exported annotations. Without metadata, each image is its own patient.

    Raises:
        UserError: there is no project file, or it cannot be read.
    """
    project, entries = read_project(folder)
    found = Found()
    exported = found.by_name(exports(folder))
    stems = Counter(Path(entry.name).stem for entry in entries)
    for entry in entries:
        stem = Path(entry.name).stem
        names = [entry.name] if stems[stem] > 1 else [entry.name, stem]
        annotations = [exported.pop(name) for name in names if name in exported]
        if len(annotations) > 1:
            found.problems.append(f"{annotations[1]}: annotates {entry.name!r}, as does {annotations[0]}; keep one")
        role = entry.metadata.get("split", "")
        if role and role not in ROLES:
            found.problems.append(f"{folder}, image {entry.name!r}: split {role!r} is not one of {', '.join(ROLES)}")
        path = image_file(entry.uri, project, folder) if entry.uri else None
        if entry.kind != "uri":
            found.problems.append(
                f"{folder}, image {entry.name!r}: is not a file but {entry.kind!r} in QuPath (rotated or"
                " concatenated, for example); annotate the file itself"
            )
        elif path is None:
            found.missing.append(
                f"{folder}, image {entry.name!r}: there is no file {unquote(entry.uri)}, nor one of that name in the"
                " project's folder; fix its path in QuPath, or copy it there"
            )
        else:
            slide = usable_name(names[-1])
            patient = usable_name(entry.metadata.get("patient", slide))
            annotation = annotations[0] if annotations else None
            group = entry.metadata.get("group", "")
            found.slides.append(Slide(slide, patient, path, annotation, group, entry.mpp, role))
    found.problems += [f"{path}: the project has no image {name!r}" for name, path in exported.items()]
    return found


def read_project(folder: Path) -> tuple[str, list[Entry]]:
    """The URI under which a project was last saved, and its images."""
    files = sorted(folder.glob("*.qpproj"))
    if len(files) != 1:
        raise UserError(f"{folder}: has {len(files)} files *.qpproj, but one is needed; give the project's own folder")
    try:
        project = json.loads(files[0].read_text(encoding="utf-8"))
        return project.get("uri", ""), [Entry.read(image) for image in project["images"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{files[0]}: is not a project of QuPath 0.2 or later ({error!r}); open it there and save it"
        ) from error


def exports(folder: Path) -> list[Path]:
    """GeoJSON files outside QuPath's own folders."""
    paths = [*folder.rglob("*.geojson"), *folder.rglob("*.json")]
    return [path for path in paths if path.relative_to(folder).parts[0] not in OWN_FOLDERS]


def image_file(uri: str, project: str, folder: Path) -> Path | None:
    """The file that a project refers to, even if the project was moved.

    Like QuPath, look at the URI itself; then at the same relative position to the project as before the move; then for
    the only file of that name in the project's folder.

    Args:
        uri: of the image.
        project: URI of the project's file when it was last saved.
        folder: where the project is now.
    """
    path = unquote(urlsplit(uri).path)
    relative = posixpath.relpath(path, posixpath.dirname(unquote(urlsplit(project).path)) or "/")
    for candidate in (Path(url2pathname(urlsplit(uri).path)), Path(os.path.normpath(folder / relative))):
        if candidate.is_file():
            return candidate
    same_name = [item for item in folder.rglob("*") if item.name == posixpath.basename(path) and item.is_file()]
    return same_name[0] if len(same_name) == 1 else None


def usable_name(text: str) -> str:
    """The text as a name that the sample sheet accepts."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.-") or "_"
