"""How long many small images take to be cut into patches, from the sheet to the contact sheet.

    python benchmarks/small_images.py                         # 200 images of 512 px: all, cutting alone, a process each
    python benchmarks/small_images.py --before ../old --json  # also against another checkout of this repository

Each round runs `snakemake patches` with every way in turn, so that the ratios hold on a machine that others use too;
CPU seconds are those of Snakemake and all processes below it.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil
import yaml

ROOT = Path(__file__).parents[1]
STUDY = {
    "study": "small",
    "slides": {"sheet": "slides.csv"},
    "classes": [
        {"name": "rest", "color": "#ffffff", "mask_values": [0]},
        {"name": "tumour", "color": "#c83232", "mask_values": [1]},
    ],
    "patches": {"size": 64, "mpp": 0.5},
    "splits": {"source": "random", "annotated_patients": [1], "test_patients": 1},
    "segmentation": {"training": {"steps": 1}},
    "arms": {"real": {"label": "real"}, "stain": {"label": "stain", "augmentation": "stain"}},
    "evaluation": {"reference_arm": "real"},
}
STEDM = """\
#!/bin/sh
exec {python} -c 'import sys; from {module} import main; sys.exit(main())' "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=512, help="pixels (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--before", type=Path, help="folder of another checkout to compare with")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    arguments = parser.parse_args()
    ways: dict[str, tuple[Path, bool, list[str]]] = {
        "shared process": (ROOT, True, []),
        "cutting alone": (ROOT, True, ["--until", "extract_patches"]),
        "process each": (ROOT, False, []),
    }
    if arguments.before:
        ways["before"] = (arguments.before.resolve(), True, [])
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        make_study(Path(folder), arguments.images, arguments.size)
        for _ in range(arguments.rounds):
            for way, (checkout, shared, options) in ways.items():
                found[way].append(run(Path(folder), checkout, shared, arguments.cores, options))
    print("| way | seconds | CPU seconds | times as long |\n|---|---|---|---|")
    figures: dict[str, float] = {}
    for way, runs in found.items():
        ratio = median(
            one["seconds"] / first["seconds"] for one, first in zip(runs, found["shared process"], strict=True)
        )
        seconds, cpu = (median(one[kind] for one in runs) for kind in ("seconds", "cpu_seconds"))
        print(f"| {way} | {seconds:.1f} | {cpu:.1f} | {ratio:.1f} |")
        name = way.replace(" ", "_")
        figures |= {
            f"{name}_seconds": round(seconds, 1),
            f"{name}_cpu": round(cpu, 1),
            f"{name}_ratio": round(ratio, 2),
        }
    if arguments.json:
        print(json.dumps({"images": arguments.images, "size": arguments.size, "cores": arguments.cores} | figures))


def make_study(folder: Path, images: int, size: int) -> None:
    """Images with the frequencies of tissue, each with a mask, a sheet and a study."""
    rng = np.random.default_rng(0)
    with (folder / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "patient", "path", "annotation", "mpp"])
        for number in range(images):
            name = f"S{number:04d}"
            coarse = [rng.normal(0, 1, (size // width, size // width, 3)).astype(np.float32) for width in (2, 8, 32)]
            blobs = sum(cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) for noise in coarse)
            pixels = np.clip((180, 120, 200) + 25 * blobs, 0, 255).astype(np.uint8)
            mask = cv2.circle(np.zeros((size, size), np.uint8), (size // 2, size // 2), size // 4, 1, -1)
            cv2.imwrite(str(folder / f"{name}.png"), pixels)
            cv2.imwrite(str(folder / f"{name}-mask.png"), mask)
            writer.writerow([name, f"P{number // 2:04d}", f"{name}.png", f"{name}-mask.png", 0.5])
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")


def run(folder: Path, checkout: Path, shared: bool, cores: int, more: list[str]) -> dict[str, float]:
    """Cut all images anew with the code of a checkout."""
    for left in ("results", ".snakemake", "bin"):
        shutil.rmtree(folder / left, ignore_errors=True)
    module = "stedm.server" if (checkout / "src/stedm/server.py").exists() else "stedm.cli"
    command = folder / "bin/stedm"
    command.parent.mkdir()
    command.write_text(STEDM.format(python=sys.executable, module=module), encoding="utf-8")
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(checkout / "src"),
    }
    if not shared:
        environment["STEDM_SERVER"] = ""
    options = ["--profile", checkout / "profiles/local", "--snakefile", checkout / "Snakefile", "--cores", cores, *more]
    start = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "snakemake", "patches", *map(str, options), "--configfile", "study.yaml"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        status, cpu = watch(process)
    assert status == 0, (folder / "log.txt").read_text(encoding="utf-8")
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu}


def watch(process: psutil.Popen) -> tuple[int, float]:
    """Exit status, and CPU seconds of the process and of the server below it and its forks, which nobody waits for."""
    server, of_server = None, 0.0
    of_forks: dict[int, float] = {}  # as far as they are still there every tenth of a second
    before = os.times()
    while process.poll() is None:
        try:
            for child in process.children() if server is None else []:
                server = child if "stedm.server" in child.cmdline() else None
            if server is not None:
                of_forks |= {fork.pid: sum(fork.cpu_times()[:2]) for fork in server.children()}
                of_server = sum(server.cpu_times()[:4]) + sum(of_forks.values())
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.1)
    after = os.times()
    return (
        process.returncode,
        after.children_user + after.children_system - before.children_user - before.children_system + of_server,
    )


if __name__ == "__main__":
    main()
