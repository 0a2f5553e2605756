"""Files that are whole or absent, what killed writers leave, and that nothing of the user's is ever replaced."""

import os
import platform
import shutil
import signal
import subprocess
import sys

import pytest

from stedm.errors import UserError
from stedm.files import write_json, written_whole
from stedm.seals import check_folder_unchanged, check_unchanged, recorded, sha256

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
    assert {item.name for item in tmp_path.iterdir()} == {path.name, ".stedm"}


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
    assert {path.name for path in tmp_path.iterdir()} == {*others, "a.h5", ".stedm"}


def write(path, text="ours"):
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_folder(path, text="ours"):
    with written_whole(path) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner/a.txt").write_text(text, encoding="utf-8")
        write_json(temporary / "b.json", {})


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def users_file(path):
    path.write_text("mine")


def users_folder(path):
    path.mkdir()
    (path / "slide.svs").write_text("mine")


def empty_folder(path):
    path.mkdir()


def dangling_link(path):
    path.symlink_to("nowhere")


def users_link(path):
    path.with_name("real").write_text("mine")
    path.symlink_to("real")


def our_file_that_the_user_edited(path):
    write(path)
    path.write_text("mine")


def our_folder_with_a_file_of_the_user(path):
    write_folder(path)
    (path / "inner/notes.txt").write_text("mine")


def our_folder_that_the_user_edited(path):
    write_folder(path)
    (path / "inner/a.txt").write_text("mine")


def our_folder_with_a_link_of_the_user(path):
    write_folder(path)
    (path / "inner/link").symlink_to("nowhere")


USERS = [
    *(users_file, users_folder, empty_folder, dangling_link, users_link, our_file_that_the_user_edited),
    *(our_folder_with_a_file_of_the_user, our_folder_that_the_user_edited, our_folder_with_a_link_of_the_user),
]


@pytest.mark.parametrize("write_it", [write, write_folder])
@pytest.mark.parametrize("make", USERS)
def test_what_is_the_users_is_never_replaced(tmp_path, make, write_it):
    path = tmp_path / "a"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"^{path}: "):
        write_it(path, "new")
    assert contents(tmp_path) == before
    assert path.is_symlink() or path.exists()


def test_a_refusal_comes_before_anything_is_computed(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError), written_whole(tmp_path / "a"):
        pytest.fail("began")


@pytest.mark.parametrize(("first", "then"), [(write, write_folder), (write_folder, write)])
def test_our_own_output_is_not_replaced_by_one_of_the_other_kind(tmp_path, first, then):
    path = tmp_path / "a"
    first(path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"{path}: is a .*, and a .* is to be written"):
        then(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("write_it", [write, write_folder])
def test_our_own_output_is_replaced(tmp_path, write_it):
    path = tmp_path / "a"
    for text in ("first", "second", "third"):
        write_it(path, text)
        assert any(text.encode() in content for content in contents(tmp_path).values())


def test_an_output_that_was_moved_away_with_its_seal_left_behind_is_no_hindrance(tmp_path):
    """As Snakemake removes outputs before it makes them again."""
    write(tmp_path / "a", "first")
    (tmp_path / "a").unlink()
    write(tmp_path / "a", "second")
    write(tmp_path / "a", "third")
    assert (tmp_path / "a").read_text() == "third"


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from stedm import files
from stedm.files import written_whole
calls = 0
replace = Path.replace
def killed(self, target):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killed
with written_whole(Path(sys.argv[1])) as temporary:
    temporary.write_text("new")
"""


@pytest.mark.parametrize("before", ["nothing", "old"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_at_any_moment_leaves_a_file_that_is_ours(tmp_path, before, call):
    path = tmp_path / "a"
    if before == "old":
        write(path, "old")
    subprocess.run([sys.executable, "-c", KILLED_AT, str(path), str(call)], check=False)
    if path.exists():
        check_unchanged(path)
        assert path.read_text() in ("old", "new")
    write(path, "newer")
    assert path.read_text() == "newer"
    assert recorded(path) == [sha256(path)]


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: b"", lambda old: old + b"x", lambda old: b"O" + old[1:]]
)
def test_a_file_that_was_cut_or_changed_is_named(tmp_path, damage):
    write(tmp_path / "a")
    write_folder(tmp_path / "b")
    (tmp_path / "foreign").write_text("mine")
    for path in (tmp_path / "a", tmp_path / "b/inner/a.txt", tmp_path / "foreign"):
        check_unchanged(path)
        path.write_bytes(damage(path.read_bytes()))
    for path in (tmp_path / "a", tmp_path / "b/inner/a.txt"):
        with pytest.raises(UserError, match=f"{path}: is not what was written"):
            check_unchanged(path)
    check_unchanged(tmp_path / "foreign")
    with pytest.raises(UserError, match=f"{tmp_path}/b/inner/a.txt: is not what"):
        check_folder_unchanged(tmp_path / "b")


def test_files_that_were_put_in_each_others_place_with_their_seals_are_named(tmp_path):
    names = "n1-r0.csv", "n2-r0 'ü\n\udcff.csv"
    for name in names:
        write(tmp_path / name, name.encode("utf-8", "replace").decode())
        check_unchanged(tmp_path / name)
    for folder, ending in ((tmp_path, ""), (tmp_path / ".stedm", ".sha256")):
        one, other, between = (folder / f"{name}{ending}" for name in (*names, "between"))
        one.rename(between)
        other.rename(one)
        between.rename(other)
    for name in names:
        with pytest.raises(UserError, match="is not what was written"):
            check_unchanged(tmp_path / name)
        with pytest.raises(UserError, match="it was not written by stedm, or it was changed"):
            write(tmp_path / name)


def test_seals_of_older_versions_have_no_name(tmp_path):
    write(tmp_path / "a")
    (tmp_path / ".stedm/a.sha256").write_text(f"{sha256(tmp_path / 'a')}\n")
    check_unchanged(tmp_path / "a")
    write(tmp_path / "a", "again")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_list_of_a_folder_is_checked_by_sha256sum_and_travels_with_it(tmp_path):
    write_folder(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    check_folder_unchanged(tmp_path / "b")
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "b", capture_output=True)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [b"b.json: OK", b"inner/a.txt: OK"]
    (tmp_path / "b/b.json").unlink()
    with pytest.raises(UserError, match=r"b\.json: is not"):
        check_folder_unchanged(tmp_path / "b")
