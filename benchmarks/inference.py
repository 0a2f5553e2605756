"""How long a network waits for its slide, and how much memory that takes.

    python benchmarks/inference.py                                        # share of time not in the network
    python benchmarks/inference.py --blocks 16 --mpp 1 --patch 512 --no-network     # memory: 61,440 × 61,440 px

The slide is the demo's tissue at 0.25 µm/px, tiled JPEG with levels 1, 4 and 16, 43% of it tissue. The network is the
demo's (a U-Net, tu-resnet18 of depth 4) for what it costs; what it says is replaced by a threshold on the stain, so
that the map has outlines like those of a trained network. Without it only the threshold is left: next to nothing.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import tifffile
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from stedm.config import Evaluation, Patches, Segmentation, TissueClass, Training
from stedm.device import device
from stedm.phantom.files import render_slide
from stedm.phantom.style import sample_style
from stedm.segmentation import application
from stedm.segmentation.network import Dataset, Moments, Normalisation, TrainedNetwork, build_network
from stedm.segmentation.predict import predict_slide
from stedm.sheet import Slide
from stedm.style.moments import BANDS

TILE = 240
BLOCK = 16 * TILE
"""The slide is made of blocks of tissue, all alike, and of glass; one is a whole number of tiles at all levels."""
MPP = 0.25
TISSUE = 0.43
CLASSES = [TissueClass(name="stroma", color="#e8a0bf"), TissueClass(name="tumour", color="#6a3d9a")]


class Network(nn.Module):
    """Tumour where it is dark on the scale of 8 pixels; at the cost of a U-Net, if there is one."""

    def __init__(self, unet: nn.Module | None):
        super().__init__()
        self.unet = unet

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        dark = -0.2 - interpolate(avg_pool2d(images[:, :1], 8), scale_factor=8, mode="bilinear")
        scores = torch.cat([-dark, dark], 1)
        return scores if self.unet is None else scores + 0 * self.unet(images)


def make_slide(path: Path, blocks: int) -> None:
    """Write a square slide of `blocks`² blocks; tiles are encoded once and written again and again."""
    rng = np.random.default_rng(0)
    quarter, _, _ = render_slide(BLOCK // 2, MPP, sample_style(rng, wide=False), "solid", rng)
    half = np.hstack([quarter, quarter[:, ::-1]])
    image = np.vstack([half, half[::-1]])
    shape = cv2.GaussianBlur(rng.normal(size=(blocks, blocks)), (0, 0), max(0.5, blocks / 6))
    wanted = shape >= np.quantile(shape, 1 - TISSUE)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level, downsample in enumerate((1, 4, 16)):
            smaller = cv2.resize(image, (BLOCK // downsample,) * 2, interpolation=cv2.INTER_AREA)
            file.write(
                tiles(smaller, wanted),
                shape=(blocks * len(smaller), blocks * len(smaller), 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(1e4 / MPP / downsample,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def tiles(block: np.ndarray, wanted: np.ndarray) -> Iterator[bytes]:
    """JPEGs of all tiles of a level, row by row."""
    count = len(block) // TILE
    glass = encode(np.full((TILE, TILE, 3), 240, np.uint8))
    parts = block.reshape(count, TILE, count, TILE, 3).swapaxes(1, 2)
    encoded = [[encode(np.ascontiguousarray(part)) for part in row] for row in parts]
    for blocks in wanted:
        for row in encoded:
            for is_tissue in blocks:
                yield from row if is_tissue else [glass] * count


def encode(tile: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(tile, quality=80, colorspace="RGB", colorsubsampling="420")


def measure(slide: Path, mpp: float, size: int, unet: nn.Module | None, batch_size: int, out: Path) -> dict[str, float]:
    """Predict the slide and time it."""
    torch.set_num_threads(1)  # more would not be seen in the CPU time of the thread that calls the network
    moments = Moments(mean=(0, 0, 0), covariances=[((1, 0, 0), (0, 1, 0), (0, 0, 1))] * BANDS)
    patches = Patches(size=size, mpp=mpp)
    dataset = Dataset(classes=CLASSES, patches=patches, normalisation=Normalisation(), reference=moments)
    network = TrainedNetwork(Network(unet).to(device(), memory_format=torch.channels_last).eval(), dataset)
    spent = {"wall": 0.0, "cpu": 0.0, "windows": 0}
    inner = application.predict_probabilities

    def timed(network: TrainedNetwork, images: np.ndarray) -> np.ndarray:
        wall, cpu = time.perf_counter(), time.thread_time()
        result = inner(network, images)
        spent["wall"] += time.perf_counter() - wall
        spent["cpu"] += time.thread_time() - cpu
        spent["windows"] += len(images)
        return result

    application.predict_probabilities = timed
    wall, cpu = time.perf_counter(), time.process_time()
    options = Evaluation(overlap=0.5, batch_size=batch_size)
    predict_slide(options, network, "as_is", Slide("slide", "slide", slide), "bounds", out)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    features = (out / "slide.prediction.geojson").read_text().count('"Feature"')
    with tifffile.TiffFile(out / "slide.prediction.tif") as file:
        pixels = int(np.prod(file.pages.first.shape))
    return {
        "map_megapixels": pixels / 1e6,
        "windows": spent["windows"],
        "polygons": features,
        "seconds": wall,
        "network_seconds": spent["wall"],
        "share_not_in_network": 1 - spent["wall"] / wall,
        "cpu_share_not_in_network": 1 - spent["cpu"] / cpu,
        "windows_per_second": spent["windows"] / wall,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3, help="blocks of 3,840 px along each side (default: 3)")
    parser.add_argument("--mpp", type=float, default=1.0, help="of the network (default: 1.0)")
    parser.add_argument("--patch", type=int, default=64, help="pixels of a window's side (default: 64)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--no-network", action="store_true", help="without the U-Net")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on the last line")
    arguments = parser.parse_args()
    unet = None
    if not arguments.no_network:
        options = Segmentation(
            encoder="tu-resnet18", encoder_depth=4, decoder_channels=[64, 32, 16, 8], training=Training(steps=1)
        )
        unet, _ = build_network(options, len(CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tiff"
        make_slide(slide, arguments.blocks)
        side = arguments.blocks * BLOCK
        print(
            f"slide of {side:,} × {side:,} px at {MPP} µm/px; windows of {arguments.patch} px at {arguments.mpp} µm/px"
        )
        figures = measure(slide, arguments.mpp, arguments.patch, unet, arguments.batch_size, Path(folder) / "out")
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):28s}{value:12.1%}" if "share" in name else f"{name:28s}{value:12,.1f}")
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
