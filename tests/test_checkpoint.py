import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from stedm.checkpoint import KEPT, Clock, work_folder
from stedm.errors import Interrupted

HOLD = """
import sys, time
from pathlib import Path
from stedm.checkpoint import work_folder
with work_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_newest_checkpoint_is_read_back(tmp_path):
    with work_folder(tmp_path) as folder:
        assert folder.newest() is None
        folder.save(3, {"weights": torch.arange(3)})
        folder.save(10, {"weights": torch.arange(4)})
        state = folder.newest()
    assert state["step"] == 10
    assert torch.equal(state["weights"], torch.arange(4))


def test_the_checkpoint_of_another_training_is_passed_over(tmp_path, caplog):
    with work_folder(tmp_path / "one") as one, work_folder(tmp_path / "two") as two:
        one.save(3, {"weights": torch.arange(3)})
        two.save(4, {"weights": torch.arange(4)})
        (tmp_path / "two/step-000000004.pt").rename(tmp_path / "one/step-000000004.pt")
        assert one.newest()["step"] == 3
        assert two.newest() is None
    assert "it is of the training two" in caplog.text


def test_only_the_last_checkpoints_are_kept(tmp_path):
    with work_folder(tmp_path) as folder:
        for step in (1, 2, 30, 400):
            folder.save(step, {})
    assert [path.name for path in folder.checkpoints()] == ["step-000000030.pt", "step-000000400.pt"]
    assert KEPT == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "folder"])
def test_unreadable_newest_checkpoint_is_named_and_passed_over(tmp_path, caplog, damage):
    with work_folder(tmp_path) as folder:
        folder.save(1, {"weights": torch.ones(1000)})
        folder.save(2, {"weights": torch.zeros(1000)})
        newest = folder.checkpoints()[-1]
        content = newest.read_bytes()
        newest.unlink()
        match damage:
            case "truncated":
                newest.write_bytes(content[: len(content) // 2])
            case "flipped":  # a bit of a weight
                middle = len(content) // 2
                newest.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            case "empty":
                newest.touch()
            case "text":
                newest.write_text("not a checkpoint")
            case "folder":
                newest.mkdir()
        with caplog.at_level(logging.WARNING):
            state = folder.newest()
    assert state["step"] == 1
    assert "step-000000002.pt cannot be read" in caplog.text


def test_pickled_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"step": 1, "model": Evil()}, tmp_path / "step-000000001.pt")
    with work_folder(tmp_path) as folder:
        assert folder.newest() is None
    assert not (tmp_path / "evil").exists()


def test_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    with work_folder(tmp_path) as folder:
        folder.save(1, {"weights": torch.ones(3)})
        with pytest.raises(AttributeError):
            folder.save(2, {"weights": lambda: None})  # cannot be pickled: fails in mid-write
        assert folder.newest()["step"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "step-000000001.pt"]


def test_second_writer_is_refused_until_the_first_is_gone(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(Interrupted, match="another process is training there"), work_folder(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    with work_folder(tmp_path) as folder:  # a lock dies with its process, even by SIGKILL
        assert folder.newest() is None


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".step-000000007.pt.4711.tmp").write_bytes(b"half a checkpoint")
    with work_folder(tmp_path) as folder:
        assert folder.newest() is None
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_asks_to_stop_and_handlers_are_put_back(tmp_path, number):
    before = signal.getsignal(number)
    with work_folder(tmp_path) as folder:
        assert not folder.stop_requested
        os.kill(os.getpid(), number)
        assert folder.stop_requested
    assert signal.getsignal(number) is before


def test_clock_is_due_once_each_interval(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Clock(minutes=1)
    now = 59.0
    assert not clock.due()
    now = 61.0
    assert clock.due()
    assert not clock.due()
    now = 122.0
    assert clock.due()
