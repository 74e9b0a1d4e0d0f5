"""Files of DICOM in folders, archives and lists."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile

import pytest
from pydicom.data import get_testdata_file

from qmedsam.formats.dicom.sources import files_of_bytes, files_of_path
from qmedsam.formats.dispatch import open_scan, read_scan
from qmedsam.formats.scan import FormatError
from tests.qmedsam.formats.dicom.conftest import ct_slice, headers, save, write_series


def zipped(folder, **options) -> bytes:
    """Return an archive of a folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return stream.getvalue()


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_slice_that_is_not_fetched_stops_the_run_and_is_named(tmp_path, number):
    """As in a set of git-annex, whose files are links into a store."""
    folder = write_series(tmp_path / "ct")
    path = folder / f"IM{number:04}.dcm"
    path.unlink()
    path.symlink_to(tmp_path / "store" / "unfetched")
    with pytest.raises(FormatError, match=rf"ct/{path.name} cannot be read: .*No such file"):
        open_scan(folder)


def test_slices_in_a_linked_folder_are_of_the_series(tmp_path):
    folder = write_series(tmp_path / "ct")
    (tmp_path / "more").mkdir()
    for name in ("IM0003.dcm", "IM0004.dcm"):
        (folder / name).rename(tmp_path / "more" / name)
    (folder / "more").symlink_to(tmp_path / "more")
    (folder / "loop").symlink_to(folder)
    assert open_scan(folder).pixels.shape == (5, 8, 10)


def test_slices_in_nested_folders_are_one_series(tmp_path):
    folder = write_series(tmp_path / "ct")
    (folder / "more").mkdir()
    (folder / "IM0003.dcm").rename(folder / "more" / "IM0003.dcm")
    assert open_scan(folder).pixels.shape == (5, 8, 10)


def test_a_series_may_be_a_zip_archive(tmp_path):
    folder = write_series(tmp_path / "ct")
    (folder / "notes.txt").write_text("beside the slices")
    (tmp_path / "ct.zip").write_bytes(zipped(folder, compression=zipfile.ZIP_DEFLATED))
    for scan in (
        open_scan(tmp_path / "ct.zip"),
        read_scan("ct.zip", (tmp_path / "ct.zip").read_bytes()),
    ):
        assert (scan.pixels == open_scan(folder).pixels).all()


def test_a_broken_slice_in_an_archive_is_named(tmp_path):
    folder = write_series(tmp_path / "ct")
    path = folder / "IM0002.dcm"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FormatError, match=r"ct\.zip/ct/IM0002\.dcm must have pixels"):
        read_scan("ct.zip", zipped(folder))


def test_files_may_be_packed_by_gzip(tmp_path):
    folder = write_series(tmp_path / "ct")
    expected = open_scan(folder).pixels
    for path in sorted(folder.glob("*.dcm")):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert (open_scan(folder).pixels == expected).all()
    assert (open_scan(folder / "IM0001.dcm.gz").pixels == expected[1]).all()
    content = (folder / "IM0001.dcm.gz").read_bytes()
    assert (read_scan("a.dcm.gz", content).pixels == expected[1]).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"", "must be a readable archive, got: File is not a zip file"),
        ("a.zip", b"text", "must be a readable archive, got: File is not a zip file"),
        ("a.dcm.gz", b"text", "Not a gzipped file"),
        ("a.dcm.gz", gzip.compress(b"text", mtime=0), "must be DICOM, got something else"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name} .*{message}"):
        open_scan(tmp_path / name)
    with pytest.raises(FormatError, match=f"{name} .*{message}"):
        read_scan(name, content)


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "ct")
    archive = zipped(folder)
    monkeypatch.setattr("qmedsam.formats.unpacking.largest_array_bytes", lambda: 99)
    with pytest.raises(FormatError, match=r"ct\.zip .* more than the 99 bytes"):
        read_scan("ct.zip", archive)
    packed = gzip.compress((folder / "IM0000.dcm").read_bytes())
    with pytest.raises(FormatError, match=r"a\.dcm\.gz .* more than the 99 bytes"):
        read_scan("a.dcm.gz", packed)
    (folder / "IM0000.dcm.gz").write_bytes(packed)
    with pytest.raises(FormatError, match=r"IM0000\.dcm\.gz .* more than the 99 bytes"):
        open_scan(folder)


def test_an_archive_of_very_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("qmedsam.formats.unpacking.MOST_MEMBERS", 4)
    with pytest.raises(FormatError, match="has 5 files, more than 4"):
        read_scan("ct.zip", zipped(write_series(tmp_path / "ct")))


def test_members_that_unpack_without_a_limit_are_refused(tmp_path):
    archive = zipped(write_series(tmp_path / "ct"), compression=zipfile.ZIP_LZMA)
    with pytest.raises(FormatError, match=r"ct/IM0000\.dcm is neither stored nor deflated"):
        read_scan("ct.zip", archive)


def test_hidden_members_of_an_archive_are_left_out():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("ct/1.dcm", "__MACOSX/ct/._1.dcm", "ct/.DS_Store", "../2.dcm"):
            archive.writestr(name, b"x")
    names = [file.name for file in files_of_bytes("a.zip", stream.getvalue())]
    assert names == ["a.zip/../2.dcm", "a.zip/ct/1.dcm"]


def test_a_dicomdir_lists_its_files(tmp_path):
    source = get_testdata_file("DICOMDIR", download=False)
    folder = shutil.copytree(
        source.removesuffix("DICOMDIR"),
        tmp_path / "disc",
        ignore=shutil.ignore_patterns("DICOMDIR-*", "*.py", "TINY*"),
    )
    with pytest.raises(FormatError, match="must hold one series"):
        open_scan(folder / "DICOMDIR")
    uid = headers(folder / "98892001" / "CT5N")[0].series_uid
    assert open_scan(folder / "DICOMDIR", series=uid).pixels.shape == (5, 16, 16)
    first = sorted((folder / "98892001" / "CT5N").iterdir())[0]
    first.unlink()
    with pytest.raises(FormatError, match=f"{first} cannot be read"):
        open_scan(folder / "DICOMDIR", series=uid)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_file_that_a_dicomdir_lists_twice_is_one(tmp_path):
    folder = write_series(tmp_path / "disc", 3)
    dataset = ct_slice()
    dataset.DirectoryRecordSequence = []
    for parts in (["IM0000.dcm"], ["IM0001.dcm"], ["IM0000.dcm"], [".", "IM0002.dcm"]):
        dataset.DirectoryRecordSequence.append(record := type(dataset)())
        record.ReferencedFileID = parts
    names = [file.name for file in files_of_path(save(dataset, folder / "DICOMDIR"))]
    assert names == [str(folder / f"IM000{number}.dcm") for number in range(3)]
    scan = open_scan(folder / "DICOMDIR")
    assert (scan.pixels.shape, scan.remarks) == ((3, 8, 10), ())


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_dicomdir_leads_nowhere_else(tmp_path):
    dataset = ct_slice()
    record = type(dataset)()
    record.ReferencedFileID = ["..", "other.dcm"]
    dataset.DirectoryRecordSequence = [record]
    path = save(dataset, tmp_path / "disc" / "DICOMDIR")
    save(ct_slice(), tmp_path / "other.dcm")
    with pytest.raises(FormatError, match="DICOMDIR must list files beside it"):
        open_scan(path)


@pytest.mark.parametrize("content", [b"", b"text" * 99])
def test_a_broken_dicomdir_is_named(tmp_path, content):
    (tmp_path / "DICOMDIR").write_bytes(content)
    with pytest.raises(FormatError, match="DICOMDIR must be a DICOMDIR, got something else"):
        open_scan(tmp_path / "DICOMDIR")
