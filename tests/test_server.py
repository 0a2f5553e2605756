"""Commands done by forks of a server: files, messages and exit status as of a process each, and no loose ends."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from stedm import server

OPTIONS = {
    "classes": [{"name": "rest", "color": "#ffffff", "mask_values": [0]}],
    "annotations": {},
    "patches": {"size": 64, "mpp": 0.5},
}
PHANTOM = {"phantoms": {"size": 20_000}}


@pytest.fixture
def running(monkeypatch):
    """A server, as Snakemake starts it."""
    monkeypatch.setenv(server.SERVER, "")
    process = server.start()
    folder = Path(os.environ[server.SERVER]).parent
    yield process
    process.stdin.close()
    assert process.wait(10) == 0
    assert not folder.exists()


@pytest.fixture
def image(tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "image.png"), rng.integers(0, 255, (128, 192, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((128, 192), np.uint8))
    return tmp_path


def call(folder, *arguments, start=subprocess.run, **options):
    command = [sys.executable, "-c", "import sys; from stedm.server import main; sys.exit(main())", *arguments]
    return start(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def extract(folder, out, **row):
    row = {"slide": "s1", "patient": "p1", "path": "image.png", "annotation": "mask.png", "mpp": 0.5} | row
    arguments = ["--options", json.dumps(OPTIONS), "--slide", json.dumps(row)]
    return call(folder, "patches", "extract", *arguments, "--out", f"{out}.h5", "--overview", f"{out}.png")


def test_a_forked_command_does_what_a_process_of_its_own_does(image, running, monkeypatch):
    served = extract(image, "served")
    threads = psutil.Process(running.pid).num_threads()
    monkeypatch.setenv(server.SERVER, "")
    alone = extract(image, "alone")
    assert (served.returncode, served.stdout) == (alone.returncode, alone.stdout) == (0, "")
    assert served.stderr.partition(" ")[2] == alone.stderr.partition(" ")[2] == "s1: 6 patches\n"
    assert (image / "served.png").read_bytes() == (image / "alone.png").read_bytes()
    assert (image / "served.h5").read_bytes() == (image / "alone.h5").read_bytes()
    assert threads == 1  # or it could not be forked


@pytest.mark.parametrize(
    ("row", "status", "text"),
    [
        ({"path": "missing.png"}, 0, "quarantined"),
        ({"mpp": None}, 2, "no resolution"),
        ({"mpp": "much"}, 2, "mpp"),
    ],
)
def test_each_slide_keeps_its_exit_status(image, running, row, status, text):
    done = extract(image, "out", **row)
    assert done.returncode == status
    assert text in done.stderr
    assert (image / "out.h5").exists() == (status == 0)


def test_a_wrong_command_line_is_explained(tmp_path, running):
    done = call(tmp_path, "patches", "extract", "--nonsense")
    assert done.returncode == 2
    assert "usage: stedm patches extract" in done.stderr


def test_a_killed_command_takes_its_fork_with_it(tmp_path, running):
    row = {"slide": "s1", "patient": "p1", "path": "s1.tiff", "annotation": "s1.geojson", "group": "solid"}
    command = call(
        tmp_path,
        *("phantom", "render", "--options", json.dumps(PHANTOM), "--slide", json.dumps(row)),
        start=subprocess.Popen,
    )
    process = psutil.Process(running.pid)
    wait_until(lambda: at_work(process))
    command.kill()
    command.communicate()
    wait_until(lambda: not [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE])
    assert not (tmp_path / "s1.tiff").exists()


def test_a_killed_fork_fails_its_command(tmp_path, running):
    row = {"slide": "s1", "patient": "p1", "path": "s1.tiff", "annotation": "s1.geojson", "group": "solid"}
    command = call(
        tmp_path,
        *("phantom", "render", "--options", json.dumps(PHANTOM), "--slide", json.dumps(row)),
        start=subprocess.Popen,
    )
    (fork,) = wait_until(lambda: at_work(psutil.Process(running.pid)))
    fork.kill()
    assert "killed" in command.communicate()[1]
    assert command.returncode == server.KILLED


def test_a_fork_goes_on_with_the_next_command(image, running):
    extract(image, "first")
    (fork,) = forks = psutil.Process(running.pid).children()
    held = fork.num_fds(), fork.num_threads()
    failed = extract(image, "failed", mpp="much")
    after = extract(image, "after")
    assert (failed.returncode, after.returncode) == (2, 0)
    assert after.stderr.partition(" ")[2] == "s1: 6 patches\n"
    assert (image / "first.h5").read_bytes() == (image / "after.h5").read_bytes()
    assert psutil.Process(running.pid).children() == forks
    assert (fork.num_fds(), fork.num_threads()) == held


def test_a_fork_that_has_ended_is_replaced(image, running):
    extract(image, "first")
    (fork,) = psutil.Process(running.pid).children()
    fork.kill()
    fork.wait(10)
    assert extract(image, "next").returncode == 0
    assert psutil.Process(running.pid).children() != [fork]


def test_a_fork_that_needed_much_memory_ends(image, running):
    extract(image, "first")
    (fork,) = psutil.Process(running.pid).children()
    cv2.imwrite(str(image / "image.png"), np.zeros((11_000, 11_000, 3), np.uint8))  # 800 MB as it is read
    extract(image, "large", annotation=None)
    wait_until(lambda: not fork.is_running())


def test_without_a_server_that_fits_a_command_runs_by_itself(image, running, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr(server, "__file__", "/another/installation/server.py")
        assert server.ask(os.environ[server.SERVER], ["patches", "extract"]) is None
    monkeypatch.setenv(server.SERVER, str(image / "gone"))
    assert extract(image, "out").returncode == 0
    assert (image / "out.h5").exists()


def at_work(process):
    """Forks that have read what they are to do; what the server starts while it imports has one thread."""
    forks = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.num_threads() > 1:
                forks.append(child)
    return forks


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
