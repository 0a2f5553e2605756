"""Predictions of a trained segmentation network for whole slides, as a label map and as polygons."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stedm.config import IGNORE_INDEX, Application, Device, Origin, Patches, Windows
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import device_name, within_memory
from stedm.errors import UserError
from stedm.files import file_fingerprint, provenance, refuse_to_replace, write_json, written_whole
from stedm.seals import is_ours
from stedm.segmentation.application import applied
from stedm.segmentation.label_map import TILE, write_label_map
from stedm.segmentation.network import TrainedNetwork, load_network
from stedm.segmentation.outlines import Outlines, write_geojson
from stedm.segmentation.windows import gaussian_weights, stitch
from stedm.sheet import Slide
from stedm.slides import OpenedSlide, open_slide
from stedm.slides.annotations.origin import area_of
from stedm.slides.open import patch_level
from stedm.slides.patches import grid
from stedm.slides.tissue import TissueMask, tissue_mask

SUFFIXES = {
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".vms",
    ".vmu",
    ".scn",
    ".mrxs",
    ".svslide",
    ".bif",
    ".png",
    ".jpg",
    ".jpeg",
}
"""What of a folder is taken for a slide."""

log = logging.getLogger(__name__)


def predict_slides(
    options: Windows,
    model: Path,
    paths: Sequence[Path],
    *,
    out: Path,
    application: Application = "as_is",
    mpp: float | None = None,
    origin: Origin = "bounds",
    redo: bool = False,
    device: Device = DEFAULT_DEVICE,
) -> None:
    """Apply a network to slides, each on its own: what goes wrong with one is told in the end.

    A slide gets `{slide}.prediction.tif` (label map), `{slide}.prediction.geojson` (polygons) and, when it is done,
    `{slide}.prediction.json` (provenance). A slide that this model has done already is passed over.

    Args:
        options: overlap and batch size.
        model: folder that `train_network` wrote.
        paths: slides, and folders of slides.
        out: folder for the results.
        application: how the network is applied to each slide.
        mpp: µm per level-0 pixel of the slides, whatever their files say.
        origin: what map and polygons cover of slides that were scanned in part, as in `annotations.origin`: the
            scanned area, which is what QuPath shows, or the canvas.
        redo: predict those again that are done.
        device: how CUDA is used.

    Raises:
        UserError: the model or the slides cannot be read; what went wrong with each.
    """
    slides = find_slides(paths, out, mpp)
    network = load_network(model, device)
    asked = {"overlap": options.overlap, "application": application, "mpp": mpp, "origin": origin}
    run = provenance(
        asked | network.dataset.model_dump(mode="json"),
        {"model": file_fingerprint(model / "model.safetensors")},
        device=device_name(),
    )
    problems: list[str] = []
    for number, slide in enumerate(slides, start=1):
        place = f"{slide.path} ({number} of {len(slides)})"
        try:
            made_from = run | {"inputs": {"slide": file_fingerprint(slide.path), **run["inputs"]}}
            if not redo and is_done(out, slide.slide, made_from):
                log.info("%s: is done", place)
                continue
            log.info("%s", place)
            for path in results_of(out, slide.slide):
                refuse_to_replace(path)
            results_of(out, slide.slide)[0].unlink(missing_ok=True)  # it would speak for what comes now
            predict_slide(options, network, application, slide, origin, out)
            write_json(results_of(out, slide.slide)[0], made_from)
        except (UserError, OSError) as error:
            log.error("%s: failed: %s", place, error)
            problems += error.messages if isinstance(error, UserError) else [f"{slide.path}: {error.strerror or error}"]
    if problems:
        raise UserError(problems)


def find_slides(paths: Sequence[Path], out: Path, mpp: float | None) -> list[Slide]:
    """The slides of files and folders, named after their files.

    Raises:
        UserError: there are none, two have one name, or their folder is the one of the results.
    """
    files = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if file == path or (file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    ]
    first: dict[str, Path] = {}
    problems = [
        f"{path}: has the name of {first[path.stem]}; give them in two calls, with two folders for the results"
        for path in files
        if first.setdefault(path.stem, path) != path
    ]
    if not files:
        problems.append(f"{', '.join(map(str, paths))}: no slide in there ({', '.join(sorted(SUFFIXES))})")
    if any(path.resolve().parent == out.resolve() for path in files):
        problems.append(f"{out}: has the slides in it; name another folder for the results")
    if mpp is not None and not 0 < mpp < float("inf"):
        problems.append(f"--mpp: {mpp:g} is not a positive number of micrometres per pixel")
    if problems:
        raise UserError(problems)
    return [Slide(name, name, path, mpp=mpp) for name, path in first.items()]


def results_of(out: Path, name: str) -> list[Path]:
    """Provenance, label map and polygons of a slide."""
    return [out / f"{name}.prediction{ending}" for ending in (".json", ".tif", ".geojson")]


def is_done(out: Path, name: str, made_from: dict[str, Any]) -> bool:
    """Whether a slide's results are there, whole and unchanged, from this model and these options."""
    files = results_of(out, name)
    if not all(is_ours(file) for file in files):
        return False
    found = json.loads(files[0].read_text(encoding="utf-8"))
    return all(found[key] == made_from[key] for key in ("options", "inputs"))


def predict_slide(
    options: Windows, network: TrainedNetwork, application: Application, slide: Slide, origin: Origin, out: Path
) -> None:
    """Write a slide's label map and polygons; at no time is more than a few rows of windows in memory."""
    patches = network.dataset.patches
    size = patches.size
    with open_slide(slide, max_megapixels=patches.max_megapixels) as opened:
        choose_level(opened, patches)
        downsample = opened.downsample
        for note in opened.notes:
            log.warning("%s: %s", slide.slide, note)
        left0, top0, *sides = area_of(origin, "geojson", opened.dimensions, opened.bounds)
        width, height = (max(1, int(side / downsample + 1e-6)) for side in sides)
        tissue = tissue_mask(opened, patches.tissue)
        corners = grid(opened, patches)
        shares = tissue.fractions(corners, size * downsample)
        opened.choose_reader(corners[shares > 0], size)
        predict = within_memory(applied(network, application, opened, lambda: corners[shares >= patches.min_tissue]))

        def wanted(corners: np.ndarray) -> np.ndarray:
            return tissue.fractions(corners * downsample + (left0, top0), size * downsample) > 0

        def read(left: int, top: int, w: int, h: int) -> tuple[np.ndarray, np.ndarray]:
            x, y = left0 + round(left * downsample), top0 + round(top * downsample)
            image, broken = opened.read_readable(x, y, w, h, downsample)
            if broken.any():
                log.warning(
                    "%s: is broken in rows %d to %d of the map, and not predicted there", slide.slide, top, top + h
                )
            return image, broken

        shape = max(height, size), max(width, size)
        bands = stitch(shape, wanted, gaussian_weights(size), options.overlap, options.batch_size, read, predict)
        strips = on_tissue(label_strips(bands, height, width), tissue, (left0, top0), downsample)
        shown = tqdm(strips, slide.slide, -(-height // TILE), unit="strip", disable=None)
        outlines = Outlines()
        _, label_map, polygons = results_of(out, slide.slide)
        with written_whole(label_map) as tiff, written_whole(polygons) as text:
            write_label_map(tiff, outlines.watch(shown), (height, width), network.dataset.classes, opened.patch_mpp)
            write_geojson(text, outlines.polygons(), network.dataset.classes, downsample)


def choose_level(opened: OpenedSlide, patches: Patches) -> None:
    """Read a slide at the resolution of the patches that the network was trained on.

    Raises:
        UserError: the slide has no resolution, or not the one asked for.
    """
    if patches.mpp is not None and opened.mpp is None:
        raise UserError(
            f"{opened.slide.path}: no resolution, and the network expects {patches.mpp:g} µm/px; give --mpp, the"
            " micrometres per pixel of the slide"
        )
    opened.level, opened.downsample = patch_level(opened, patches)


def label_strips(bands: Iterable[tuple[int, np.ndarray]], height: int, width: int) -> Iterator[np.ndarray]:
    """Labels (512, W) uint8 of the most probable class, fewer rows in the last; 255 where no window lay.

    Args:
        bands: row and probabilities (C, h, ≥ W), from the top, as `stitch` yields them.
        height: of the map.
        width: of the map.
    """
    start, strip = 0, np.full((TILE, width), IGNORE_INDEX, np.uint8)
    for top, probabilities in bands:
        labels = probabilities.argmax(0).astype(np.uint8)
        labels[np.isnan(probabilities[0])] = IGNORE_INDEX
        labels = labels[: max(0, height - top), :width]
        while len(labels):
            rows = labels[: max(0, start + TILE - top)]
            strip[top - start : top - start + len(rows)] = rows
            top, labels = top + len(rows), labels[len(rows) :]
            if len(labels):
                yield strip
                start, strip = start + TILE, np.full_like(strip, IGNORE_INDEX)
    while start < height:
        yield strip[: height - start]
        start, strip = start + TILE, np.full_like(strip, IGNORE_INDEX)


def on_tissue(
    strips: Iterable[np.ndarray], tissue: TissueMask, corner: tuple[int, int], downsample: float
) -> Iterator[np.ndarray]:
    """The strips of a map with 255 on glass: windows reach beyond the tissue, and a class of glass means nothing.

    Args:
        strips: (512, W) uint8, from the top.
        tissue: of the slide.
        corner: level-0 x, y of the map's upper left.
        downsample: level-0 pixels per pixel of the map.
    """
    left, top = map(float, corner)
    for strip in strips:
        starts = zip((top, left), strip.shape, tissue.mask.shape, strict=True)
        rows, columns = (
            np.clip(((first + (np.arange(length) + 0.5) * downsample) / tissue.downsample).astype(int), 0, most - 1)
            for first, length, most in starts
        )
        yield np.where(tissue.mask[rows[:, None], columns], strip, np.uint8(IGNORE_INDEX))
        top += len(strip) * downsample
