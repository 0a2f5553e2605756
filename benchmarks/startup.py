"""How much of the demo is spent on starting its jobs.

    python benchmarks/startup.py --checkout . --checkout ../stedm-before

Of each command of the demo the script takes the first job's call from Snakemake's dry run and does it in an empty
folder, where it ends as soon as it finds that its inputs are missing. Counted are the CPU seconds of the outermost
imports, wherever they stand, and of the interpreter's own start, times the number of jobs. A command that is forked
from another process counts what asks for it; the imports of that other process count once.
"""

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

IMPORTS = """\
import atexit, builtins, os, sys, time
first, spent, inside = time.process_time(), 0.0, False
original = builtins.__import__
def timed(*arguments, **more):
    global spent, inside
    if inside:
        return original(*arguments, **more)
    inside, start = True, time.process_time()
    try:
        return original(*arguments, **more)
    finally:
        inside, spent = False, spent + time.process_time() - start
builtins.__import__ = timed
atexit.register(lambda: open(os.environ["STARTUP"], "w").write(str(first + spent)))
"""
"""Runs before the command, as `sitecustomize`."""


def commands_of(checkout: Path, folder: Path) -> tuple[dict[str, str], Counter[str]]:
    """The first job's command of each kind, by its name, and how many jobs have such a command."""
    for name in ("config.yaml", "workflow"):
        (folder / name).symlink_to(checkout / name)
    call = [sys.executable, "-m", "snakemake", "--snakefile", checkout / "Snakefile", "--cores", "1"]
    call += ["--dry-run", "--printshellcmds", "--quiet", "reason"]
    plan = subprocess.run(call, cwd=folder, env=environment(checkout), capture_output=True, text=True)
    if plan.returncode:
        sys.exit(plan.stdout + plan.stderr)
    commands: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for text in re.findall(r"\bstedm (.*?)(?: && |\)? > )", plan.stdout):
        name = " ".join(text.split()[:2])
        commands.setdefault(name, text)
        counts[name] += 1
    return commands, counts


def environment(checkout: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"} | more


def seconds_of(command: str, checkout: Path, folder: Path, **more: str) -> float:
    """CPU seconds that a command spends on imports."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site/sitecustomize.py").write_text(IMPORTS, encoding="utf-8")
    found = environment(checkout, STARTUP=str(folder / "spent"), **more)
    found["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), found["PYTHONPATH"]])
    main = "stedm.server" if (checkout / "src/stedm/server.py").exists() else "stedm.cli"
    call = [sys.executable, "-c", f"import sys; from {main} import main; sys.exit(main())", *shlex.split(command)]
    subprocess.run(call, cwd=folder, env=found, capture_output=True)
    return float((folder / "spent").read_text())


def seconds_of_python(code: str, checkout: Path) -> float:
    """CPU seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment(checkout), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def served(commands: dict[str, str], checkout: Path) -> dict[str, str]:
    """Those of the commands that Snakemake's process has done by forking."""
    if not (checkout / "src/stedm/server.py").exists():
        return {}
    ask = "import json; from stedm.server import SERVED; print(json.dumps(SERVED))"
    answer = subprocess.run([sys.executable, "-c", ask], env=environment(checkout), capture_output=True, check=True)
    kinds = json.loads(answer.stdout)
    return {name: command for name, command in commands.items() if name.split() in kinds}


def measure(checkout: Path) -> dict[str, float]:
    """CPU seconds of the start of all jobs, by command."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commands, counts = commands_of(checkout, folder)
        forked = served(commands, checkout)
        found = {
            name: counts[name] * seconds_of(command, checkout, folder)
            for name, command in commands.items()
            if name not in forked
        }
        if forked:
            found["the process that is forked"] = seconds_of_python("from stedm.server import load; load()", checkout)
            each = seconds_of_python("import json, socket, stedm.server", checkout)
            found |= {name: counts[name] * each for name in forked}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", required=True, help="folder with a version of STEDM")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on the last line")
    arguments = parser.parse_args()
    everything = {}
    for checkout in arguments.checkout:
        found = measure(checkout.resolve())
        everything[str(checkout)] = found
        print(checkout)
        for name, seconds in found.items():
            print(f"    {name:28s}{seconds:8.1f} CPU s")
        print(f"    {'all':28s}{sum(found.values()):8.1f} CPU s", flush=True)
    if arguments.json:
        print(json.dumps(everything))


if __name__ == "__main__":
    main()
