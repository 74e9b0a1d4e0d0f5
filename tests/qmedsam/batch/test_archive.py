"""The fast reader and writer, held to NumPy's and to the zip files that it must not trust."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from qmedsam.batch import archive
from qmedsam.batch.archive import archive_of, read_array, read_header, read_slice
from qmedsam.system.deflate import DeflateError

ARRAYS = {
    "image": np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8),
    "volume": np.zeros((20, 64, 64), dtype=np.uint8),
    "boxes": np.array([[1.5, 2, 3, 4]]),
    "no boxes": np.zeros((0, 6)),
    "scalar": np.array(7, dtype=np.int32),
    "labels beyond 255": np.arange(600, dtype=np.uint16).reshape(20, 30),
    "columns first": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    "big-endian": np.arange(5, dtype=">f4"),
}


@pytest.fixture(params=["isal", "zlib"])
def _deflate(request, monkeypatch):
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(archive, "deflate", zlib)


def read(content: bytes, member: str = "a.npy", most_bytes: int = 1 << 30) -> np.ndarray:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream) as opened:
        return read_array(stream, opened, member, most_bytes=most_bytes)


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_what_numpy_writes_is_read(array, save):
    buffer = io.BytesIO()
    save(buffer, other=np.ones(3), a=array)
    found = read(buffer.getvalue())
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_numpy_reads_what_is_written(array, tmp_path):
    (tmp_path / "a.npz").write_bytes(archive_of({"segs": array}))
    with zipfile.ZipFile(tmp_path / "a.npz") as opened:
        assert opened.testzip() is None
    with np.load(tmp_path / "a.npz") as opened:
        assert opened.files == ["segs"]
        assert (opened["segs"].dtype, opened["segs"].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(opened["segs"], array)


def test_the_same_array_gives_the_same_bytes():
    assert archive_of({"a": ARRAYS["image"]}) == archive_of({"a": ARRAYS["image"].copy()})


def test_an_array_too_large_for_the_plain_format_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 1000)
    content = archive_of({"segs": ARRAYS["image"]})
    with np.load(io.BytesIO(content)) as opened:
        np.testing.assert_array_equal(opened["segs"], ARRAYS["image"])


def test_a_header_of_a_later_version_is_read():
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, ARRAYS["image"], version=(3, 0))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.npy", buffer.getvalue())
    np.testing.assert_array_equal(read(zipped.getvalue()), ARRAYS["image"])


def deflated(array=ARRAYS["image"]) -> bytearray:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=array)
    return bytearray(buffer.getvalue())


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("place", [80, 200, 1500])
def test_a_flipped_bit_in_the_values_is_found(place):
    content = deflated()
    content[place] ^= 0x10
    with pytest.raises((zipfile.BadZipFile, DeflateError, zlib.error)):
        read(bytes(content))


@pytest.mark.usefixtures("_deflate")
def test_a_member_that_inflates_to_more_than_it_says_is_refused_without_inflating_it():
    content = deflated(np.zeros(1 << 26, dtype=np.uint8))
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as opened:
        directory = opened.start_dir
    content[directory + 24 : directory + 28] = (70_000).to_bytes(4, "little")  # its size
    tracemalloc.start()
    with pytest.raises(zipfile.BadZipFile, match="CRC-32"):
        read(bytes(content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


def test_a_directory_that_points_nowhere_is_refused():
    content = deflated()
    content[0:4] = b"ABCD"
    with pytest.raises(zipfile.BadZipFile, match=r"No header of 'a\.npy'"):
        read(bytes(content))


def test_objects_are_refused():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="Arrays of objects"):
        read(buffer.getvalue())


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("name", ["volume", "labels beyond 255", "columns first", "image"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_a_slice_is_that_of_the_whole_array(name, save):
    content, array = io.BytesIO(), ARRAYS[name]
    save(content, a=array)
    with zipfile.ZipFile(content) as opened:
        for z in (len(array) - 1, 0, 1):
            found = read_slice(content, opened, "a.npy", z)
            np.testing.assert_array_equal(found, array[z])
            assert found.dtype == array.dtype
            assert found.flags.c_contiguous


def test_a_slice_that_is_cut_off_is_not_made_up():
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (3, 2, 4)}
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        opened.writestr("a.npy", header.getvalue() + bytes(20))  # of 24
    with zipfile.ZipFile(content) as opened:
        for z in range(3):
            with pytest.raises(ValueError, match="Its header says 152 bytes, and there are not as"):
                read_slice(content, opened, "a.npy", z)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
    )
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as opened:
            opened.writestr("a.npy", header.getvalue())
        with (
            zipfile.ZipFile(content) as opened,
            pytest.raises(ValueError, match="Its header says 8000000000128 bytes"),
        ):
            read_header(content, opened, "a.npy")


def test_a_comment_is_passed_over_and_the_same_bytes_come_each_time():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = archive_of({"segs": array}, b"made of this")
    assert content == archive_of({"segs": array}, b"made of this")
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.comment == b"made of this"
    assert np.array_equal(np.load(io.BytesIO(content))["segs"], array)
