"""A disk that is full, a limit on files, a folder that cannot be written to: what is said, and what is left."""

import os
import resource
import subprocess
import sys
from json import dumps
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stedm.checkpoint import work_folder
from stedm.errors import UserError
from stedm.files import write_json, written_whole
from stedm.store import PatchFile, write_patches

LIMIT = 1 << 20
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def patch_file(folder):
    """16 MiB, most of which HDF5 keeps in memory until the file is closed."""
    patches = ((NOISE, None, (0, 0), 1.0) for _ in range(1400))
    write_patches(folder / "a.h5", patches, 64, ["stroma"], {"slide": "a"})


def checkpoint(folder):
    with work_folder(folder) as work:
        work.save(1, {"weights": torch.rand(1 << 20)})


def table(folder):
    with written_whole(folder / "a.csv") as temporary:
        pd.DataFrame(np.random.default_rng(0).random((10_000, 10))).to_csv(temporary)


def model(folder):
    from safetensors.torch import save_file

    with written_whole(folder / "model") as temporary:
        temporary.mkdir()
        save_file({"weights": torch.rand(1 << 20)}, temporary / "model.safetensors")


def json(folder):
    write_json(folder / "a.json", ["a long text"] * (1 << 17))


WRITERS = (patch_file, checkpoint, table, model, json)


def write_all(folder, make_space):
    """Run in a process of its own, which must not crash at its end."""
    for write in WRITERS:
        with pytest.raises(UserError) as caught:
            write(folder)
        (message,) = caught.value.messages
        assert message.startswith(f"{folder}/") and "no space to write it" in message, message
        assert [path.name for path in folder.iterdir() if path.name != "lock"] == [], write
    make_space()
    for write in WRITERS:
        write(folder)
    assert len(PatchFile(folder / "a.h5")) == 1400
    with work_folder(folder) as work:
        assert work.newest()["step"] == 1


def limited(folder):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, most))
    write_all(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))


def full(folder):
    larger = ["mount", "-o", "remount,size=128m", str(folder)]
    write_all(folder, lambda: subprocess.run(larger, check=True))


def in_process(test, folder):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_disk; from pathlib import Path"
    call = [sys.executable, "-c", f"{code}; test_disk.{test}(Path(sys.argv[1]))", str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_limit_on_files_is_named_and_nothing_is_left_of_what_was_begun(tmp_path):
    in_process("limited", tmp_path)


def test_a_full_disk_is_named_nothing_is_left_and_all_goes_on_after_space_is_made(small_disk):
    in_process("full", small_disk)


def test_a_command_that_finds_no_space_says_so_in_one_line_and_crashes_not(tmp_path):
    Image.fromarray(np.tile(NOISE, (16, 16, 1))).save(tmp_path / "a.png")
    options = {
        "classes": [{"name": "stroma", "color": "#000000"}],
        "annotations": {},
        "patches": {"size": 64, "level": 0, "tissue": None},
    }
    slide = {"slide": "a", "patient": "a", "path": f"{tmp_path}/a.png"}
    call = [
        sys.executable,
        "-c",
        "import sys; from stedm.cli import main; sys.exit(main())",
        "patches",
        "extract",
        "--options",
        dumps(options),
        "--slide",
        dumps(slide),
    ]
    call += [
        "--out",
        tmp_path / "a.h5",
        "--overview",
        tmp_path / "a-overview.png",
    ]
    limit = (LIMIT, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    done = subprocess.run(
        call, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{tmp_path}/a.h5: no space to write it (File too large); ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_named(small_disk, write):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match=f"{small_disk}: this folder cannot be written to"):
        write(small_disk)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_anothers_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match=f"{tmp_path}: this folder cannot be written to"):
        json(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path / 'new'}: this folder cannot be made"):
        json(tmp_path / "new")
