"""Files that are whole or absent, and what killed writers leave."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from stedm.files import written_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from stedm.files import written_whole
with written_whole(Path(sys.argv[1])) as temporary:
    temporary.mkdir() if sys.argv[2] == "folder" else None
    (temporary / "part" if sys.argv[2] == "folder" else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, kind):
    path = tmp_path / "a[1].h5"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left != path
    with written_whole(path) as temporary:
        temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


def test_what_others_write_stays(tmp_path):
    """Another name's, a living process's (this one's parent), and another machine's, whose processes are not seen."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = platform.node()
    others = {f".b.h5.{host}.{dead.pid}.tmp", f".a.h5.{host}.{os.getppid()}.tmp", f".a.h5.other-{host}.{dead.pid}.tmp"}
    for name in others:
        (tmp_path / name).write_text("half")
    with written_whole(tmp_path / "a.h5") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "a.h5"}
