"""How long Snakemake takes to plan a study of many slides, and how much memory.

    python benchmarks/dag.py                    # a table, for 1,000 slides of 500 patients
    python benchmarks/dag.py --slides 100 --json    # and its figures as one JSON object on the last line

The study is the default one on empty slide files: 3 numbers of annotated patients × 5 repeats, so that 15 splits, 30
generators and 180 networks are planned besides the slides. A dry run lays the whole DAG; nothing is computed.
"""

import argparse
import csv
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SPLITS = {"source": "random", "repeats": 5, "annotated_patients": [1, 2, 4], "test_patients": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--slides", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder), options.slides)
        runs = {name: plan(Path(folder)) for name in ("first", "again")}
    print(f"{'run':>8} {'slides':>8} {'jobs':>8} {'seconds':>9} {'CPU seconds':>12} {'peak MB':>9}")
    for name, figures in runs.items():
        print(
            f"{name:>8} {options.slides:8,} {figures['jobs']:8,} {figures['seconds']:9.1f}"
            f" {figures['cpu_seconds']:12.1f} {figures['peak_rss_mb']:9.0f}"
        )
    if options.json:
        print(json.dumps({"slides": options.slides} | runs))


def write_study(folder: Path, slides: int) -> None:
    """Write sheet, configuration and sparse files."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config |= {"study": "many", "slides": {"sheet": "slides.csv"}, "phantoms": None, "splits": SPLITS}
    (folder / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with (folder / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "patient", "path", "annotation", "group", "mpp"])
        for number in range(slides):
            slide, patient = f"S{number:05d}", f"P{number // 2:05d}"
            for ending, size in (("svs", 4 << 20), ("geojson", 1 << 20)):
                with (folder / f"{slide}.{ending}").open("wb") as sparse:
                    sparse.truncate(size)
            writer.writerow([slide, patient, f"{slide}.svs", f"{slide}.geojson", "ab"[number // 2 % 2], 0.25])


def plan(folder: Path) -> dict[str, float]:
    """Dry-run the study; what it cost is the children's as the system counts it."""
    profile = ["--profile", str(ROOT / "profiles/local"), "--snakefile", str(ROOT / "Snakefile")]
    arguments = [*profile, "--configfile", "study.yaml", "--dry-run", "--quiet", "rules"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.findall(r"^total +(\d+)$", answer.stdout, re.M)
    return {
        "jobs": int(jobs[-1]),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_rss_mb": round(usage.ru_maxrss / 1000),  # kilobytes on Linux
    }


if __name__ == "__main__":
    main()
