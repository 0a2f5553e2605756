import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import edited, flip
from PIL import Image, JpegImagePlugin

from stedm import store
from stedm.errors import UserError
from stedm.hdf5 import new_file
from stedm.store import PatchFile, open_cache, patch_file, write_patches

NAMES = ["stroma", "tumour"]
ATTRIBUTES = {"slide": "s1", "patient": "p1", "status": "ok"}


def drawn(count, size=16, seed=0):
    """Patches of noise; every third is not annotated."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        labels = rng.choice([0, 1, 255], (size, size)).astype(np.uint8) if index % 3 else None
        yield image, labels, (index * 10, index * 20), index / count


@pytest.mark.parametrize("count", [0, 1, 64, 65, 130])
def test_what_is_written_is_read_back(tmp_path, count):
    path = tmp_path / "folder/s1.h5"
    assert write_patches(path, drawn(count), 16, NAMES, ATTRIBUTES, {"patch_level": 2}) == count
    patches = patch_file(tmp_path / "folder", "s1")
    assert len(patches) == count
    assert patches.slide == "s1"
    assert patches.attributes["patch_size"] == 16
    for index, (image, labels, corner, share) in enumerate(drawn(count)):
        np.testing.assert_array_equal(patches.image(index), image)
        expected = np.full((16, 16), 255) if labels is None else labels
        np.testing.assert_array_equal(patches.labels(index), expected)
        assert tuple(patches.coords[index]) == corner
        assert patches.tissue[index] == pytest.approx(share)
        assert patches.class_fractions[index] == pytest.approx([(expected == 0).mean(), (expected == 1).mean()])
        assert patches.annotated[index] == (labels is not None)
    batches = list(patches.images())
    assert sum(map(len, batches)) == count
    if count:
        np.testing.assert_array_equal(np.concatenate(batches)[-1], patches.image(count - 1))


def test_plain_h5py_reads_it_without_us(tmp_path):
    write_patches(tmp_path / "s1.h5", drawn(3), 16, NAMES, ATTRIBUTES, {"patch_level": 2})
    with h5py.File(tmp_path / "s1.h5") as file:
        assert (file["imgs"].shape, file["imgs"].dtype, file["imgs"].chunks) == (
            (3, 16, 16, 3),
            np.uint8,
            (1, 16, 16, 3),
        )
        assert file["imgs"].compression is None
        assert (file["labels"].shape, file["labels"].fillvalue) == ((3, 16, 16), 255)
        assert file["labels"].id.get_num_chunks() == 2  # the first is not annotated and takes no space
        assert file["coords"].dtype == np.int64
        assert file["coords"].attrs["patch_level"] == 2
        assert list(file.attrs["class_names"]) == NAMES


def test_the_fingerprint_is_of_images_labels_and_coordinates(tmp_path):
    def fingerprint(patches):
        write_patches(tmp_path / "s1.h5", patches, 16, NAMES, ATTRIBUTES)
        return PatchFile(tmp_path / "s1.h5").fingerprint

    patches = list(drawn(3))
    first = fingerprint(patches)
    assert fingerprint(patches) == first
    image, labels, corner, share = patches[1]
    for other in (
        (255 - image, labels, corner, share),
        (image, 1 - labels.clip(0, 1), corner, share),
        (image, labels, (1, 1), share),
    ):
        assert fingerprint([patches[0], other, patches[2]]) != first


def test_a_failure_leaves_the_old_file_and_nothing_half_written(tmp_path):
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(2), 16, NAMES, ATTRIBUTES)
    before = path.read_bytes()

    def failing():
        yield from drawn(70)
        raise OSError("the slide broke")

    with pytest.raises(OSError, match="the slide broke"):
        write_patches(path, failing(), 16, NAMES, ATTRIBUTES)
    assert path.read_bytes() == before
    assert {item.name for item in tmp_path.iterdir()} == {"s1.h5", ".stedm"}


def test_killed_in_the_middle_no_file_appears(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
import numpy as np
from stedm.store import write_patches
def patches():
    for index in range(100):
        if index == 80:
            os.kill(os.getpid(), signal.SIGKILL)
        yield np.zeros((16, 16, 3), np.uint8), None, (0, 0), 1.0
write_patches(Path({str(tmp_path)!r}) / "s1.h5", patches(), 16, ["a", "b"], {{}})
"""
    result = subprocess.run([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert result.returncode == -signal.SIGKILL
    assert not (tmp_path / "s1.h5").exists()


def test_a_file_cut_short_is_named(tmp_path):
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(3), 16, NAMES, ATTRIBUTES)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"s1\.h5: cannot be read.*truncated.*; delete it"):
        PatchFile(path)
    with pytest.raises(FileNotFoundError):
        PatchFile(tmp_path / "s2.h5")


@pytest.mark.parametrize("quality", [None, 90])
def test_a_file_cut_short_after_it_was_opened_is_named_by_images_and_labels(tmp_path, quality):
    """As a data loader's worker finds it, and one that holds a handle."""
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(300), 16, NAMES, ATTRIBUTES, jpeg_quality=quality)
    unread, read = PatchFile(path), PatchFile(path)
    read.image(0), read.labels(1)
    with path.open("r+b") as file:
        file.truncate(6000)
    for patches in (unread, read):
        with pytest.raises(UserError, match=r"s1\.h5: cannot be read.*; delete it"):
            for index in range(300):
                patches.image(index)
        with pytest.raises(UserError, match=r"s1\.h5: cannot be read.*; delete it"):
            for index in range(300):
                patches.labels(index)


def test_damaged_jpeg_bytes_are_never_an_image(tmp_path):
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(3), 16, NAMES, ATTRIBUTES, jpeg_quality=90)
    with edited(path) as file:
        start, end = file["jpeg_offsets"][1:3]
        file["jpeg"][(start + end) // 2 : end] = 0
    patches = PatchFile(path)
    assert patches.image(0).shape == patches.image(2).shape == (16, 16, 3)
    with pytest.raises(UserError, match=r"s1\.h5: cannot be read"):
        patches.image(1)


def test_latents_and_embeddings_cut_short_are_named(tmp_path):
    with new_file(tmp_path / "s1.h5") as file:
        file["latents"] = np.zeros((100, 100))
    with (tmp_path / "s1.h5").open("r+b") as file:
        file.truncate(6000)
    problem = r"s1\.h5: cannot be read.*truncated.*; delete .* and run again"
    with pytest.raises(UserError, match=problem), open_cache(tmp_path, "s1"):
        pass


@pytest.fixture
def photographs():
    """Patches (64 px) as photographs are: smooth, with an edge in colour."""

    def one(index):
        ramp = np.linspace(0, 200, 64)[:, None] + np.linspace(0, 50, 64)
        image = np.stack([ramp, ramp / 2 + index, 255 - ramp], 2)
        image[:, 32 + index :] = (200, 40, 120)
        labels = np.zeros((64, 64), np.uint8)
        labels[:, 32:] = 1
        return np.rint(image).astype(np.uint8), labels, (index, 0), 1.0

    return [one(index) for index in range(10)]


@pytest.mark.parametrize(("quality", "subsampling"), [(90, 2), (95, 0)])
def test_jpegs_are_what_pillow_reads_from_the_bytes(tmp_path, photographs, quality, subsampling):
    write_patches(tmp_path / "s1.h5", photographs, 64, NAMES, ATTRIBUTES, jpeg_quality=quality)
    patches = PatchFile(tmp_path / "s1.h5")
    with h5py.File(tmp_path / "s1.h5") as file:
        offsets, stored = file["jpeg_offsets"][()], file["jpeg"][()]
        np.testing.assert_array_equal(file["labels"][3], photographs[3][1])
    assert offsets[-1] == len(stored)
    for index, (image, labels, *_) in enumerate(photographs):
        picture = Image.open(io.BytesIO(stored[offsets[index] : offsets[index + 1]].tobytes()))
        assert JpegImagePlugin.get_sampling(picture) == subsampling  # 2: 4:2:0, 0: 4:4:4
        found = patches.image(index)
        assert np.abs(found.astype(int) - np.asarray(picture.convert("RGB"))).max() <= 2
        assert np.abs(found.astype(int) - image).mean() < 3
        np.testing.assert_array_equal(patches.labels(index), labels)
    assert [len(batch) for batch in patches.images()] == [10]


def test_jpeg_files_are_small_with_their_labels(tmp_path, photographs):
    sizes = {}
    for quality in (None, 90):
        write_patches(tmp_path / "s1.h5", photographs * 20, 64, NAMES, ATTRIBUTES, jpeg_quality=quality)
        sizes[quality] = (tmp_path / "s1.h5").stat().st_size
    assert sizes[90] < sizes[None] / 5


def test_jpegs_may_cross_the_chunks_they_are_stored_in(tmp_path, monkeypatch, photographs):
    monkeypatch.setattr(store, "JPEG_CHUNK", 1000)
    write_patches(tmp_path / "s1.h5", photographs, 64, NAMES, ATTRIBUTES, jpeg_quality=90)
    patches = PatchFile(tmp_path / "s1.h5")
    for index, (image, *_) in enumerate(photographs):
        assert np.abs(patches.image(index).astype(int) - image).mean() < 3


def open_handles(folder):
    """How many handles to files of a folder this process has."""
    links = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    return sum(link.is_relative_to(folder.resolve()) for link in links)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_few_files_are_open_however_many_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "OPEN_FILES", 3)
    for number in range(6):
        write_patches(tmp_path / f"s{number}.h5", drawn(3, seed=number), 16, NAMES, ATTRIBUTES)
    files = [PatchFile(tmp_path / f"s{number}.h5") for number in range(6)]
    store.OPENED.clear()  # files of other tests, which the collector has not come to
    assert open_handles(tmp_path) == 0
    for number in (0, 1, 2, 3, 4, 5, 0, 3, 0, 1):
        expected = next(drawn(3, seed=number))[0]
        np.testing.assert_array_equal(files[number].image(0), expected)
        assert open_handles(tmp_path) <= 3
    assert set(store.OPENED) == {files[3], files[0], files[1]}  # the last that were read
    del files
    assert open_handles(tmp_path) == 0


def test_a_patch_file_travels_to_another_process_without_its_handle(tmp_path):
    write_patches(tmp_path / "s1.h5", drawn(3), 16, NAMES, ATTRIBUTES)
    patches = PatchFile(tmp_path / "s1.h5")
    first = patches.image(2)
    copy = pickle.loads(pickle.dumps(patches))
    assert copy not in store.OPENED
    np.testing.assert_array_equal(copy.image(2), first)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_opens_its_own_handle(tmp_path):
    write_patches(tmp_path / "s1.h5", drawn(3), 16, NAMES, ATTRIBUTES)
    patches = PatchFile(tmp_path / "s1.h5")
    first = patches.image(2)
    child = os.fork()
    if child == 0:
        right = not store.OPENED and (patches.image(2) == first).all()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(patches.image(2), first)


def reads(path):
    """All that can be read of a patch file."""
    patches = PatchFile(path)
    everything = [(patches.image(index).tobytes(), patches.labels(index).tobytes()) for index in range(len(patches))]
    return patches.attributes, patches.coords.tobytes(), patches.tissue, patches.class_fractions, everything


@pytest.mark.parametrize("quality", [None, 90])
def test_no_flipped_bit_is_read(tmp_path, quality):
    """What is read of a file is what was written, or the file is named; and HDF5 does not loop."""
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(4, size=8), 8, NAMES, ATTRIBUTES | {"notes": "a text"}, {"patch_level": 2}, quality)
    whole, expected, caught = path.read_bytes(), repr(reads(path)), 0
    for place in range(0, len(whole), len(whole) // 150):
        flip(path, place, place % 8)
        try:
            assert repr(reads(path)) == expected, place
        except UserError as error:
            assert str(path) in str(error)
            caught += 1
        path.write_bytes(whole)
    assert caught > 10


def test_a_flipped_bit_is_found_by_the_first_read_and_the_file_and_the_remedy_are_named(tmp_path):
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(3), 16, NAMES, ATTRIBUTES)
    patches = PatchFile(path)
    image = patches.image(1)
    flip(path, path.read_bytes().index(image.tobytes()) + 100)
    patches = PatchFile(path)
    np.testing.assert_array_equal(patches.image(0), next(drawn(3))[0])
    for _ in range(2):
        with pytest.raises(UserError, match=r"s1\.h5: cannot.*image 1: the checksum.*; delete it and run again"):
            patches.image(1)


def test_a_file_that_was_swapped_with_another_slides_is_named(tmp_path):
    write_patches(tmp_path / "s2.h5", drawn(3), 16, NAMES, ATTRIBUTES)
    with pytest.raises(UserError, match=r"s2\.h5: cannot be read.*slide 's1'"):
        patch_file(tmp_path, "s2")


def external_storage(path, secret):
    with h5py.File(path, "a") as file:
        shape = file["imgs"].shape
        del file["imgs"]
        file.create_dataset("imgs", shape, "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(path, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as other, h5py.File(path, "a") as file:
        other["imgs"] = file["imgs"][()]
        del file["imgs"]
        file["imgs"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/imgs")


def soft_link(path, secret):
    with h5py.File(path, "a") as file:
        file.move("imgs", "elsewhere")
        file["imgs"] = h5py.SoftLink("/elsewhere")


def virtual_data_set(path, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as other, h5py.File(path, "a") as file:
        other["imgs"] = file["imgs"][()]
        layout = h5py.VirtualLayout(file["imgs"].shape, "u1")
        layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "imgs", file["imgs"].shape)
        del file["imgs"]
        file.create_virtual_dataset("imgs", layout)


ELSEWHERE = [external_storage, external_link, soft_link, virtual_data_set]


@pytest.mark.parametrize("put", ELSEWHERE)
@pytest.mark.parametrize("sealed", [False, True])
def test_pixels_of_another_file_are_never_read(tmp_path, put, sealed):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(256)) * 100)
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(3), 16, NAMES, ATTRIBUTES)
    put(path, secret)
    if sealed:  # a stranger can do that
        with edited(path):
            pass
    with pytest.raises(UserError, match=rf"{path}: cannot be read.*'imgs' is .*never followed"):
        PatchFile(path)
    (tmp_path / "cache").mkdir()
    path.rename(tmp_path / "cache/s1.h5")
    with pytest.raises(UserError, match="never followed"), open_cache(tmp_path / "cache", "s1"):
        pass


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.attrs.update(patch_size=17),
        lambda file: file.attrs.update(patch_size=10**6),
        lambda file: file.__delitem__("checksums"),
        lambda file: file.create_group("more"),
        lambda file: file.attrs.__delitem__("fingerprint") or file.attrs.__delitem__("patch_size"),
        lambda file: file["labels"].resize(2, 0),
        lambda file: (file.__delitem__("coords"), file.create_dataset("coords", (2**37, 2), "i8", chunks=(64, 2))),
    ],
)
def test_a_file_of_strange_shape_is_named(tmp_path, change):
    path = tmp_path / "s1.h5"
    write_patches(path, drawn(3), 16, NAMES, ATTRIBUTES)
    with h5py.File(path, "a") as file:
        change(file)
    with contextlib.suppress(ValueError, AttributeError), edited(path):
        pass
    with pytest.raises(UserError, match=f"{path}: cannot be read"):
        PatchFile(path)


def test_shards_and_caches_with_a_flipped_bit_are_named(tmp_path):
    from stedm.shards import Generated, Shard, write_shard

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    layout = rng.integers(0, 2, (16, 16), np.uint8)
    path = tmp_path / "0.h5"
    write_shard(path, [Generated(n, image, layout, 0) for n, image in enumerate(images)], 16, NAMES, {})
    flip(path, path.read_bytes().index(images[1].tobytes()))
    shard = Shard(path)
    np.testing.assert_array_equal(shard.image(0), images[0])
    with pytest.raises(UserError, match=r"0\.h5: cannot be read.*; delete it"):
        shard.image(1)

    rows = rng.random((5, 7), np.float32)
    with new_file(tmp_path / "s1.h5") as file:
        file.create_dataset("embeddings", data=rows, chunks=(1, 7), fletcher32=True)
        file.attrs["slide"] = "s1"
    flip(tmp_path / "s1.h5", (tmp_path / "s1.h5").read_bytes().index(rows[3].tobytes()))
    with open_cache(tmp_path, "s1") as file:
        np.testing.assert_array_equal(file["embeddings"][2], rows[2])
    with (
        pytest.raises(UserError, match=rf"s1\.h5: cannot be read.*; delete {tmp_path} and"),
        open_cache(tmp_path, "s1") as file,
    ):
        file["embeddings"][3]
