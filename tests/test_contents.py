"""What files hold, and when they are read again."""

import json
import os
import time

import pytest

from stedm.contents import contents

OLD = 1.5e9


@pytest.fixture
def held(tmp_path):
    """Contents of a slide and an annotation, and what of them was read."""
    (tmp_path / "s.svs").write_bytes(b"slide")
    (tmp_path / "a.json").write_bytes(b"annotation")

    def read():
        return contents([tmp_path / "s.svs"], [tmp_path / "a.json"], tmp_path / "cache/c.json")

    return read


def test_contents_are_read_again_only_of_files_that_changed(held, tmp_path, monkeypatch):
    first = held()
    read = []
    monkeypatch.setattr("stedm.contents.file_fingerprint", lambda path: read.append(path.name) or "new")
    monkeypatch.setattr("hashlib.file_digest", lambda file, kind: pytest.fail("was read again"))
    assert held() == first
    os.utime(tmp_path / "s.svs", (OLD, OLD))
    assert held()[tmp_path / "s.svs"] == "new 1500000000"
    assert read == ["s.svs"]


def test_content_of_the_same_size_and_date_is_noticed(held, tmp_path):
    first = held()
    when = (tmp_path / "a.json").stat().st_mtime
    time.sleep(0.02)  # the clock of file systems ticks every few milliseconds
    (tmp_path / "a.json").write_bytes(b"Annotation")
    os.utime(tmp_path / "a.json", (when, when))
    assert held()[tmp_path / "a.json"] != first[tmp_path / "a.json"]


@pytest.mark.parametrize("damage", ["", "[]", "null", '{"a": 1}', '{"a": [1]}', "\\xff", '{"a": null}'])
def test_a_damaged_cache_is_made_again(held, tmp_path, damage):
    first = held()
    (tmp_path / "cache/c.json").write_text(damage)
    assert held() == first
    assert set(json.loads((tmp_path / "cache/c.json").read_text())) == {str(path) for path in first}


def test_files_that_cannot_be_read_stop_no_planning(tmp_path):
    assert contents([tmp_path / "none.svs"], [tmp_path], tmp_path / "c.json") == {
        tmp_path / "none.svs": "",
        tmp_path: "",
    }


def test_a_cache_that_cannot_be_written_is_done_without(held, tmp_path):
    (tmp_path / "cache").write_text("a file where its folder would be")
    assert held() == held()
