"""How fast patches are cut from a slide, against what the decoder allows and against other readers.

    python benchmarks/patch_extraction.py --json

Makes a 40× slide of 20,000² px once, as Aperio's scanners write it (`make_slide.py`), and has every reader cut the same
patches of 256 px at 0.5 µm/px from its 0.25 µm/px level into an HDF5 file: one process each, on one core, in turn,
several rounds; then some of them on two cores. The *limit* is libjpeg-turbo (simplejpeg) decoding the tiles that the
patches need, once each, from memory, and nothing else. On one core CPU seconds count, on two the clock.

Readers that are not installed are named as such. TRIDENT and CLAM are taken from folders with their repositories.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import cv2
import h5py
import numpy as np
import simplejpeg
from make_slide import make_slide

from stedm.config import Patches
from stedm.sheet import Slide
from stedm.slides import open_slide
from stedm.slides.patches import grid, read_patches
from stedm.slides.tiles import TiledLevel
from stedm.slides.tissue import tissue_mask
from stedm.store import write_patches

SIZE, MPP, SIDE = 256, 0.5, 512
"""Of the patches: pixels, µm per pixel, and pixels of level 0 that they cover."""
Work = Callable[[], object]
Read = Callable[[int, int], np.ndarray]


# Readers -------------------------------------------------------------------------------------------------------------
# Each imports what it needs and returns the work, which alone is timed: from opening the slide to the closed file.


def limit(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    level = TiledLevel.open(path, slide_size(path))
    assert level is not None
    tiles = sorted({tile for x, y in corners.tolist() for tile in level.touched(x, y, SIDE, SIDE)})
    data = [level.head + os.pread(level._file.fileno(), level.counts[tile], level.offsets[tile])[2:] for tile in tiles]

    def decode(some: list[bytes]) -> None:
        pixels = np.empty((level.tile_height, level.tile_width, 3), np.uint8)
        for item in some:
            simplejpeg.decode_jpeg(item, buffer=pixels)

    return lambda: list(ThreadPoolExecutor(threads).map(decode, [data[start::threads] for start in range(threads)]))


def stedm(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    def work() -> None:
        with open_slide(Slide("slide", "patient", path), Patches(size=SIZE, mpp=MPP)) as opened:
            opened.choose_reader(corners, SIZE)
            patches = read_patches(opened, None, corners, np.ones(len(corners)), SIZE, threads)
            write_patches(out, patches, SIZE, ["tissue"], {"reader": opened.reader})

    return work


def openslide_python(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    import openslide

    def work() -> None:
        with openslide.OpenSlide(path) as slide:

            def read(x: int, y: int) -> np.ndarray:
                return np.asarray(slide.read_region((x, y), 0, (SIDE, SIDE)))[:, :, :3]

            write_plain(out, in_threads(read, corners, threads))

    return work


def cucim(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    from cucim import CuImage

    def work() -> None:
        slide = CuImage(str(path))

        def read(x: int, y: int) -> np.ndarray:
            return np.asarray(slide.read_region((x, y), (SIDE, SIDE), level=0))

        write_plain(out, in_threads(read, corners, threads))

    return work


def fastslide(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    from fastslide import FastSlide

    def work() -> None:
        slide = FastSlide.from_file_path(str(path))

        def read(x: int, y: int) -> np.ndarray:
            return np.asarray(slide.read_region((x, y), 0, (SIDE, SIDE)).numpy())[:, :, :3]

        write_plain(out, in_threads(read, corners, threads))

    return work


def tiffslide(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    from tiffslide import TiffSlide

    def work() -> None:
        slide = TiffSlide(path)

        def read(x: int, y: int) -> np.ndarray:
            return slide.read_region((x, y), 0, (SIDE, SIDE), as_array=True)

        write_plain(out, in_threads(read, corners, threads))

    return work


def pyvips(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    from pyvips import Image, Region, cache_set_max

    cache_set_max(0)

    def work() -> None:
        region = Region.new(Image.tiffload(str(path), page=0))

        def read(x: int, y: int) -> np.ndarray:
            return np.frombuffer(region.fetch(x, y, SIDE, SIDE), np.uint8).reshape(SIDE, SIDE, 3)

        write_plain(out, in_threads(read, corners, threads))

    return work


def hs2p(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    """Its own writer: JPEGs in a tar, read through cuCIM; it is given our patches in place of those that it found."""
    from hs2p.api import SegmentationConfig, SlideSpec, TilingConfig, extract_tiles_to_tar, tile_slide

    tiling = TilingConfig(
        requested_spacing_um=MPP, requested_tile_size_px=SIZE, tolerance=0.05, overlap=0.0, backend="cucim"
    )
    found = tile_slide(
        SlideSpec(sample_id="slide", image_path=path), tiling=tiling, segmentation=SegmentationConfig(method="hsv")
    )
    tiles = replace(
        found.tiles,
        x=corners[:, 0],
        y=corners[:, 1],
        tissue_fractions=np.ones(len(corners)),
        tile_index=np.arange(len(corners)),
    )
    return lambda: extract_tiles_to_tar(
        replace(found, tiles=tiles), out.parent, jpeg_backend="pil", num_workers=threads
    )


def trident(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    from trident import WSIPatcher, load_wsi

    def work() -> None:
        slide = load_wsi(slide_path=str(path), reader_type="openslide", lazy_init=False)
        patcher = WSIPatcher(
            slide, patch_size=SIZE, src_pixel_size=slide.mpp, dst_pixel_size=MPP, custom_coords=corners
        )
        write_plain(out, ((patch, (x, y)) for patch, x, y in patcher))

    return work


def clam(path: Path, corners: np.ndarray, out: Path, threads: int) -> Work:
    """Its own writer, without its test for white and black patches."""
    from wsi_core.util_classes import Contour_Checking_fn
    from wsi_core.WholeSlideImage import WholeSlideImage

    wanted = set(map(tuple, corners.tolist()))

    class Ours(Contour_Checking_fn):
        def __call__(self, corner: tuple[int, int]) -> bool:
            return tuple(corner) in wanted

    def work() -> None:
        slide = WholeSlideImage(str(path))
        width, height = slide.level_dim[0]
        slide.contours_tissue = [np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]])]
        slide.holes_tissue = [[]]
        slide.createPatches_bag_hdf5(
            str(out.parent), patch_size=SIZE, step_size=SIZE, custom_downsample=2, white_black=False, contour_fn=Ours()
        )

    return work


READERS = {
    "limit": limit,
    "stedm": stedm,
    "openslide-python": openslide_python,
    "cucim-cu12": cucim,
    "fastslide": fastslide,
    "tiffslide": tiffslide,
    "pyvips": pyvips,
    "hs2p": hs2p,
    "TRIDENT": trident,
    "CLAM": clam,
}
ON_TWO_CORES = ("limit", "stedm", "openslide-python", "cucim-cu12")


def in_threads(read: Read, corners: np.ndarray, threads: int) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Patches at their resolution, and their corners."""

    def patch(corner: list[int]) -> tuple[np.ndarray, tuple[int, int]]:
        x, y = corner
        return cv2.resize(read(x, y), (SIZE, SIZE), interpolation=cv2.INTER_AREA), (x, y)

    if threads == 1:
        return map(patch, corners.tolist())
    return ThreadPoolExecutor(threads).map(patch, corners.tolist())


def write_plain(out: Path, patches: Iterable[tuple[np.ndarray, tuple[int, int]]]) -> None:
    """Patches and corners to HDF5 as h5py's manual does it, one patch a chunk."""
    with h5py.File(out, "w") as file:
        images = file.create_dataset(
            "imgs", (0, SIZE, SIZE, 3), "u1", maxshape=(None, SIZE, SIZE, 3), chunks=(1, SIZE, SIZE, 3)
        )
        corners = []
        for image, corner in patches:
            images.resize(len(corners) + 1, 0)
            images[-1] = image
            corners.append(corner)
        file["coords"] = np.array(corners)


# Measuring -----------------------------------------------------------------------------------------------------------


def slide_size(path: Path) -> tuple[int, int]:
    with open_slide(Slide("slide", "patient", path)) as opened:
        return opened.dimensions


def choose_patches(path: Path) -> np.ndarray:
    """(N, 2) corners of the patches with half tissue or more."""
    patches = Patches(size=SIZE, mpp=MPP)
    with open_slide(Slide("slide", "patient", path), patches) as opened:
        corners = grid(opened, patches)
        shares = tissue_mask(opened, patches.tissue).fractions(corners, SIDE)
    return corners[shares >= patches.min_tissue]


def differing_pixels(path: Path, corners: np.ndarray) -> int:
    """Level-0 pixels of all patches that are not as OpenSlide reads them."""
    import openslide

    count = 0
    with open_slide(Slide("slide", "patient", path), Patches(size=SIDE, level=0)) as opened:
        opened.choose_reader(corners, SIDE)
        with openslide.OpenSlide(path) as reference:
            for corner, pixels in zip(corners.tolist(), opened.read_patches(corners, SIDE), strict=True):
                expected = reference.read_region(tuple(corner), 0, (SIDE, SIDE)).convert("RGB")
                count += int((pixels != np.asarray(expected)).any(2).sum())
    return count


def peak_memory(path: Path, folder: Path) -> float:
    """MiB that `stedm patches extract` takes at most, with two threads."""
    options = {
        "classes": [{"name": "tissue", "color": "#ff0000"}],
        "annotations": {},
        "patches": {"size": SIZE, "mpp": MPP},
    }
    row = {"slide": "slide", "patient": "patient", "path": str(path)}
    command = [sys.executable, "-m", "stedm.cli", "patches", "extract", "--options", json.dumps(options), "--slide"]
    command += [
        json.dumps(row),
        "--out",
        str(folder / "all.h5"),
        "--overview",
        str(folder / "all.png"),
        "--threads",
        "2",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, "stedm patches extract failed"
    return usage.ru_maxrss / 1024


def run(
    reader: str, cores: int, slide: Path, corners: Path, folder: Path, search: list[Path]
) -> dict[str, float] | str:
    """Seconds of a reader in a process of its own; or why there are none."""
    command = [sys.executable, __file__, "--slide", str(slide), "--run", reader, str(cores), str(corners), str(folder)]
    available = sorted(os.sched_getaffinity(0))[:cores]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*map(str, search), os.environ.get("PYTHONPATH", "")]),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VIPS_CONCURRENCY"), str(cores)),
    }
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["killed"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def run_here(reader: str, cores: int, slide: Path, corners: Path, folder: Path) -> None:
    cv2.setNumThreads(1)
    work = READERS[reader](slide, np.load(corners), folder / "slide.h5", cores)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


def measure(
    slide: Path, corners: Path, readers: list[str], rounds: int, search: list[Path]
) -> tuple[dict[tuple[str, int], list[float]], dict[str, str]]:
    """Seconds by reader and cores, one for each round: CPU on one core, clock on two. And why readers have none."""
    seconds: dict[tuple[str, int], list[float]] = {}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for cores, kind in ((1, "cpu"), (2, "wall")):
            for reader in readers:
                if reader in missing or (cores == 2 and reader not in ON_TWO_CORES):
                    continue
                # In memory where that is possible: it is the readers that are measured, not the disk.
                shared = Path("/dev/shm")
                with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
                    found = run(reader, cores, slide, corners, Path(folder), search)
                if isinstance(found, str):
                    missing[reader] = found
                else:
                    seconds.setdefault((reader, cores), []).append(found[kind])
    return seconds, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="measure on this slide (0.25 µm/px) instead of the one made here")
    parser.add_argument("--size", type=int, default=20_000, help="pixels of the slide made here (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), help="default: all")
    parser.add_argument("--trident", type=Path, help="folder of TRIDENT's repository")
    parser.add_argument("--clam", type=Path, help="folder of CLAM's repository")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        reader, cores, corners, folder = arguments.run
        run_here(reader, int(cores), arguments.slide, Path(corners), Path(folder))
        return

    cache = Path(tempfile.gettempdir()) / "stedm-benchmarks"
    cache.mkdir(exist_ok=True)
    slide = arguments.slide or cache / f"aperio-{arguments.size}.svs"
    if not slide.exists():
        make_slide(slide.with_suffix(".part"), arguments.size)
        slide.with_suffix(".part").rename(slide)
    corners = choose_patches(slide)
    np.save(cache / "corners.npy", corners)
    readers = list(dict.fromkeys(["limit", "stedm", *arguments.readers]))
    search = [folder.resolve() for folder in (arguments.trident, arguments.clam) if folder]
    seconds, missing = measure(slide, cache / "corners.npy", readers, arguments.rounds, search)
    with tempfile.TemporaryDirectory() as folder:
        memory = peak_memory(slide, Path(folder))
    figures = {"patches": len(corners), "pixels_differing_from_openslide": differing_pixels(slide, corners)}
    figures |= {"peak_rss_mb": round(memory)}
    show(seconds, missing, readers, figures)
    if arguments.json:
        print(json.dumps(shares(seconds) | figures))


def ratio(seconds: dict[tuple[str, int], list[float]], slow: str, fast: str, cores: int = 1) -> float | None:
    """How many times as long one reader takes as another: the median over the rounds."""
    pairs = zip(seconds.get((slow, cores), []), seconds.get((fast, cores), []), strict=False)
    quotients = [a / b for a, b in pairs]
    return round(median(quotients), 3) if quotients else None


def shares(seconds: dict[tuple[str, int], list[float]]) -> dict[str, float | None]:
    peers = [reader for reader, cores in seconds if cores == 1 and reader not in ("limit", "stedm")]
    return {
        "share_of_limit_1_core": ratio(seconds, "limit", "stedm"),
        "share_of_limit_2_cores": ratio(seconds, "limit", "stedm", 2),
        "ratio_to_openslide": ratio(seconds, "openslide-python", "stedm"),
        **{f"ratio_to_{reader.lower().split('-')[0]}": ratio(seconds, reader, "stedm") for reader in peers},
    }


def show(
    seconds: dict[tuple[str, int], list[float]], missing: dict[str, str], readers: list[str], figures: dict[str, int]
) -> None:
    count = figures["patches"]
    print(f"{count} patches of {SIZE} px at {MPP} µm/px, patches a second (share of the limit)\n")
    print("| reader | version | one core | two cores |\n|---|---|---|---|")
    for reader in sorted(readers, key=lambda item: median(seconds.get((item, 1), [1e9]))):
        cells = [
            f"{count / median(seconds[reader, cores]):.0f} ({ratio(seconds, 'limit', reader, cores):.0%})"
            if (reader, cores) in seconds
            else missing.get(reader, "")
            if cores == 1
            else ""
            for cores in (1, 2)
        ]
        print(f"| {reader} | {version_of(reader)} | {cells[0]} | {cells[1]} |")
    print(
        f"\nLevel-0 pixels that differ from OpenSlide's: {figures['pixels_differing_from_openslide']}."
        f" `stedm patches extract` with two threads took {figures['peak_rss_mb']} MiB at most."
    )


def version_of(reader: str) -> str:
    try:
        return version("simplejpeg" if reader == "limit" else reader)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
