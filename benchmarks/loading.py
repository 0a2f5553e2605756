"""Does the data loader keep up with a GPU?

    python benchmarks/loading.py --patch 512 --json

One core makes batches of the preset `improved` on cached latents, as a data loader worker does: layouts, latents, and
style images in 8 bits, copied to memory that the training shares. Eight workers make eight times as many. A GPU eats as
many images a second as their FLOPs take at 400 TFLOP/s, about half of what an H100 can do in bf16.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from generator import flops, make_patches, preset

from stedm.diffusion.data import GeneratorBatches

WORKERS = 8
FLOP_PER_SECOND = 400e12
FACTOR, CHANNELS = 4, 3


def measure(size: int, batch_size: int, batches: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        files = make_patches(Path(folder), size, (CHANNELS, size // FACTOR, size // FACTOR))
        data = GeneratorBatches(preset("improved", batch_size), files[:1], files[1:], 0, Path(folder) / "latents")
        batch = data[0]  # opens the files, and compares checksums
        start = time.process_time()
        for step in range(1, 1 + batches):
            for values in data[step].values():
                values.share_memory_()
        seconds = (time.process_time() - start) / batches
    loaded = WORKERS * batch_size / seconds
    eaten = FLOP_PER_SECOND / (1e9 * flops("improved", size)["train_gflop"])
    return {
        "batch_mb": sum(values.nbytes for values in batch.values()) / 2**20,
        "cpu_seconds_per_batch": seconds,
        "loaded_per_second": loaded,
        "eaten_per_second": eaten,
        "loaded_per_eaten": loaded / eaten,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=512, help="pixels of an image's side (default: 512)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the figures as JSON on the last line")
    arguments = parser.parse_args()
    found = measure(arguments.patch, arguments.batch_size, arguments.batches)
    for name, value in found.items():
        print(f"{name.replace('_', ' '):24s}{value:12,.2f}")
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
