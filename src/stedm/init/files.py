"""Which files are slides, which are annotations, and which belong together."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stedm.errors import UserError
from stedm.sheet import LONGEST_NAME

SLIDES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jp2"),
)
OUTLINES = (".geojson", ".json", ".xml")
ANNOTATIONS = (*OUTLINES, ".png", ".tif", ".tiff")
WORD = r"(masks?|labels?|labell?ed|annotations?|segmentations?|seg|gt|ground[ _-]?truths?)"
MARK = re.compile(rf"[ _.-]+{WORD}$", re.IGNORECASE)
"""How the names of annotations end that lie beside their slides: `S1_mask.png`."""
MARKED_FOLDER = re.compile(rf"{WORD}([ _-]?\d+)?", re.IGNORECASE)
"""Names of folders that hold annotations."""


@dataclass
class Paired:
    """Slides and their annotations.

    Attributes:
        slides: files of slides by unique name.
        annotations: files by the slide's name.
        unpaired: annotations that belong to no slide, and other files that could be one, with the reason.
    """

    slides: dict[str, Path]
    annotations: dict[str, Path] = field(default_factory=dict)
    unpaired: list[str] = field(default_factory=list)


def pair_files(slides: Path, annotations: Path | None) -> Paired:
    """Find slides and annotations, and pair them by their names without endings.

    Args:
        slides: folder of the slides; folders in it are searched, too.
        annotations: folder of the annotations; None: they lie beside the slides.

    Raises:
        UserError: a folder is not there, or has no slide.
    """
    for folder in filter(None, (slides, annotations)):
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; name the folder itself")
    images, others = sorted_out(slides, annotations)
    if not images:
        endings = Counter(path.suffix or "no ending" for path in walk(slides))
        found = ", ".join(f"{count} × {ending}" for ending, count in endings.most_common(5)) or "no file"
        raise UserError(f"{slides}: has no slide; there is {found}. Slides end in {', '.join(SLIDES)}")
    paired = Paired(named(images, slides))
    root = annotations or slides
    places: dict[str, list[str]] = {}
    for name, path in paired.slides.items():
        for key in {path.relative_to(slides).with_suffix("").as_posix(), stem(path)}:
            places.setdefault(key, []).append(name)
    many = []
    for path in others:
        base = stem_of_annotation(path)
        beside = (path.relative_to(root).parent / base).as_posix()
        same = places.get(beside) or places.get(base) or []
        if len(same) == 1:
            take(paired, same[0], path)
        elif same:
            paired.unpaired.append(f"{path}: {len(same)} slides have this name: {', '.join(same[:3])}")
        else:
            many.append(path)
    for path in many:
        pair_by_content(paired, path)
    return paired


def sorted_out(slides: Path, annotations: Path | None) -> tuple[list[Path], list[Path]]:
    """Files of slides, and those of annotations."""
    apart = annotations is not None and annotations.resolve() != slides.resolve()
    found = list(walk(slides))
    if apart:
        assert annotations is not None
        within = slides.resolve().is_relative_to(annotations.resolve())
        others = [path for path in walk(annotations) if path.suffix.lower() in ANNOTATIONS]
        taken = {path.resolve() for path in (found if within else others)}
        if within:
            others = [path for path in others if path.resolve() not in taken]
        else:
            found = [path for path in found if path.resolve() not in taken]
    else:
        stems = {path.with_suffix("") for path in found if path.suffix.lower() in SLIDES}
        others = [path for path in found if is_annotation(path, slides, stems)]
        found = [path for path in found if path not in set(others)]
    return [path for path in found if path.suffix.lower() in SLIDES], others


def walk(folder: Path) -> Iterable[Path]:
    """The files in a folder and the folders in it, without hidden ones."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def is_annotation(path: Path, root: Path, stems: set[Path]) -> bool:
    """Whether a file that lies among slides is an annotation; `stems`: paths of images without endings."""
    ending = path.suffix.lower()
    if ending not in ANNOTATIONS:
        return False
    marked = any(MARKED_FOLDER.fullmatch(part) for part in path.relative_to(root).parts[:-1])
    plain = path.with_name(MARK.sub("", path.stem))
    return ending in OUTLINES or marked or (plain.name != path.stem and plain in stems)


def stem(path: Path) -> str:
    """Name of a slide's file without its ending, which may be `.ome.tif`."""
    return path.stem.removesuffix(".ome")


def stem_of_annotation(path: Path) -> str:
    """Name of the slide that an annotation is named after: S1 of `S1.svs.geojson` and of `S1_mask.png`."""
    name = MARK.sub("", stem(path))
    inner = PurePosixPath(name)
    return stem(Path(name)) if inner.suffix.lower() in SLIDES else name


def named(images: Sequence[Path], root: Path) -> dict[str, Path]:
    """Unique names that the sheet accepts: of the file, with its folders where two files have the same."""
    wanted = {path: usable(stem(path)) for path in images}
    counts = Counter(name.casefold() for name in wanted.values())
    names: dict[str, Path] = {}
    seen: set[str] = set()
    for path, name in wanted.items():
        if counts[name.casefold()] > 1:
            name = usable(path.relative_to(root).as_posix())
        name = name.encode()[: LONGEST_NAME - 4].decode(errors="ignore")
        number, unique = 2, name
        while unique.casefold() in seen:
            unique, number = f"{name}_{number}", number + 1
        seen.add(unique.casefold())
        names[unique] = path
    return names


def usable(text: str) -> str:
    """The text as a name that the sheet accepts."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.-") or "slide"


def take(paired: Paired, slide: str, path: Path) -> None:
    """Give an annotation to a slide that has none yet."""
    if slide in paired.annotations:
        paired.unpaired.append(f"{path}: slide {slide!r} has an annotation already, {paired.annotations[slide]}")
    else:
        paired.annotations[slide] = path


def pair_by_content(paired: Paired, path: Path) -> None:
    """Give a file of many images (COCO) to the slides that it names."""
    if path.suffix.lower() == ".json":
        try:
            images = json.loads(path.read_text(encoding="utf-8-sig"))["images"]
            stems = {Path(str(item["file_name"]).replace("\\", "/")).stem for item in images}
        except (OSError, ValueError, LookupError, TypeError):
            stems = set()
        found = [name for name, slide in paired.slides.items() if slide.stem in stems]
        for name in found:
            take(paired, name, path)
        if found:
            return
    paired.unpaired.append(f"{path}: no slide is called {stem_of_annotation(path)!r}")
