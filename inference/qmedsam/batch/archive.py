"""Arrays in and out of .npz archives, with the deflate of ISA-L where it is installed.

What is written is the same for the same array, whenever and by whichever NumPy. How much quicker
it is than NumPy: docs/decisions.md.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..system.deflate import deflate

LONGEST_HEADER = 1 << 16  # bytes
LARGEST_DIRECTORY = 1 << 20  # bytes; 10,000 members and more
LARGEST_END = (1 << 16) + 22 + 76  # bytes of comment, end of the directory and what precedes it
MOST_INFLATION = 1032  # times, by deflate
RAW_DEFLATE = -15  # without a header, as in a zip archive
SKIP_BYTES = 1 << 18
LEVEL = 1  # ISA-L's higher ones take longer; zlib's take longer and save little on label maps
LARGEST_MEMBER = (1 << 32) - 2  # bytes; beyond it a zip archive has other fields
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
CENTRAL_HEADER = struct.Struct("<4s6H3L5H2L")
END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
EPOCH = 0, (1 << 5) | 1  # time and date of all members: midnight, 1 January 1980
# Of what this program writes: how the comment begins, and how all of it does, as NumPy's do not.
OWN_COMMENT = b"qmedsam "
OWN_BEGINNING = struct.pack("<4s5H", b"PK\3\4", 20, 0, zipfile.ZIP_DEFLATED, *EPOCH)
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # the same but for names of fields in UTF-8
}


@dataclass(frozen=True)
class ArrayHeader:
    """What an array says of itself before its values.

    Attributes:
        shape: of the array.
        dtype: of its values.
        is_fortran: the first axis is the one that runs fastest.
        bytes_read: its own length.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    bytes_read: int


def check_directory(stream: IO[bytes]) -> None:
    """Refuse an archive whose directory is large: `zipfile` makes objects of all its entries.

    Raises:
        ValueError: it is.
    """
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - LARGEST_END))
    end = stream.read()
    is_last = end[-END_OF_DIRECTORY.size :].startswith(b"PK\5\6") and end.endswith(b"\0\0")
    place = len(end) - END_OF_DIRECTORY.size if is_last else end.rfind(b"PK\5\6")
    if place < 0:
        return  # no archive
    size = int.from_bytes(end[place + 12 : place + 16], "little")
    if end[max(0, place - 20) : place].startswith(b"PK\6\7"):  # which has larger fields before it
        size = max(size, int.from_bytes(end[place - 76 :][40:48], "little"))
    if size > LARGEST_DIRECTORY:
        raise ValueError(f"Its directory must be {LARGEST_DIRECTORY} bytes at most, got {size}")


def read_header(stream: IO[bytes], archive: zipfile.ZipFile, member: str) -> ArrayHeader:
    """Read the header of an array, and no more of the member than that; see `read_array`.

    Raises:
        ValueError: the member cannot hold what its header says; and as of `read_array`.
    """
    info = archive.getinfo(member)
    if _is_read_by_zipfile(info):
        with archive.open(info) as opened:
            header = _header(opened.read(LONGEST_HEADER))
    else:
        packed = _packed(stream, info, LONGEST_HEADER)
        head = deflate.decompressobj(RAW_DEFLATE).decompress(packed, LONGEST_HEADER)
        header = _header(head)
    told = header.bytes_read + math.prod(header.shape) * header.dtype.itemsize
    if told > min(info.file_size, _most_inflated(stream, info)):
        raise ValueError(f"Its header says {told} bytes, and there are not as many in the file")
    return header


def read_array(
    stream: IO[bytes], archive: zipfile.ZipFile, member: str, *, most_bytes: int
) -> NDArray[Any]:
    """Read one array; it cannot be written to.

    Args:
        stream: the file that `archive` reads.
        archive: open.
        member: its name in the archive, `.npy` included.
        most_bytes: that it may be inflated to.

    Raises:
        ValueError: the member is no array, or one of objects, or too large.
        zipfile.BadZipFile: it is damaged.
        KeyError, OSError, RuntimeError, zlib.error, ...: as of `zipfile`.
    """
    info = archive.getinfo(member)
    if info.file_size > most_bytes:
        raise ValueError(
            f"It inflates to {info.file_size} bytes, and {most_bytes} are the most that this "
            "process's memory limit allows"
        )
    content = _inflated(stream, archive, info)
    header = _header(content[:LONGEST_HEADER])
    array = np.frombuffer(
        content, header.dtype, count=math.prod(header.shape), offset=header.bytes_read
    )
    return array.reshape(header.shape, order="F" if header.is_fortran else "C")


def read_slice(stream: IO[bytes], archive: zipfile.ZipFile, member: str, z: int) -> NDArray[Any]:
    """Read one slice of an array (D, H, W), holding no more than that unless z varies fastest.

    What is behind the slice is not read, so that damage there is not noticed.

    Raises:
        ValueError: the member cannot hold what its header says; and as of `read_array`.
    """
    header = read_header(stream, archive, member)
    if header.is_fortran:
        whole = read_array(stream, archive, member, most_bytes=archive.getinfo(member).file_size)
        return np.ascontiguousarray(whole[z])
    size = math.prod(header.shape[1:]) * header.dtype.itemsize
    with archive.open(member) as opened:
        _skip(opened, header.bytes_read + z * size)
        content = opened.read(size)
    return np.frombuffer(content, header.dtype).reshape(header.shape[1:])


def archive_of(arrays: Mapping[str, NDArray[Any]], comment: bytes = b"") -> bytes:
    """Return a .npz archive.

    Args:
        arrays: by their names.
        comment: of the archive, which readers of arrays pass over; 65,535 bytes at most.
    """
    if any(array.nbytes > LARGEST_MEMBER - LONGEST_HEADER for array in arrays.values()):
        whole = io.BytesIO()
        named: dict[str, Any] = dict(arrays)
        np.savez_compressed(whole, **named)
        with zipfile.ZipFile(whole, "a") as archive:
            archive.comment = comment
        return whole.getvalue()
    members: list[bytes] = []
    directory: list[bytes] = []
    start = 0
    for key, array in arrays.items():
        parts, entry = _member(f"{key}.npy".encode(), np.asarray(array, order="C"), start)
        members += parts
        directory.append(entry)
        start += sum(map(len, parts))
    size = sum(map(len, directory))
    count = len(directory)
    end = END_OF_DIRECTORY.pack(b"PK\5\6", 0, 0, count, count, size, start, len(comment))
    return b"".join([*members, *directory, end, comment])


def _member(name: bytes, array: NDArray[Any], start: int) -> tuple[list[bytes], bytes]:
    """Return the parts of a member that begins at a place, and its entry in the directory."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    header, values = head.getvalue(), array.reshape(-1).view(np.uint8).data
    size = len(header) + array.nbytes
    compressor = deflate.compressobj(LEVEL, zlib.DEFLATED, RAW_DEFLATE)
    packed = [compressor.compress(header), compressor.compress(values), compressor.flush()]
    checksum = deflate.crc32(values, deflate.crc32(header))
    common = (20, 0, zipfile.ZIP_DEFLATED, *EPOCH, checksum, sum(map(len, packed)), size, len(name))
    local = LOCAL_HEADER.pack(b"PK\3\4", *common, 0) + name
    central = CENTRAL_HEADER.pack(b"PK\1\2", 20, *common, 0, 0, 0, 0, 0, start) + name
    return [local, *packed], central


def _header(content: bytes) -> ArrayHeader:
    head = io.BytesIO(content)
    version = np.lib.format.read_magic(head)
    if version not in HEADER_READERS:
        raise ValueError(f"Its format must be version 1.0 to 3.0, got {version[0]}.{version[1]}")
    try:
        # NumPy warns of headers that Python 2 wrote, and reads them.
        with warnings.catch_warnings(action="ignore"):
            shape, is_fortran, dtype = HEADER_READERS[version](head)
    # NumPy evaluates a literal and makes a type of it, and says of neither what it raises: files
    # that were made for it got IndexError, SyntaxError, MemoryError and tokenize.TokenError, too.
    except Exception as error:
        raise ValueError(f"Its header is malformed: {error}") from error
    if dtype.hasobject:
        raise ValueError("Arrays of objects are not loaded, as they could run code")
    if dtype.itemsize == 0:
        raise ValueError(f"Its values must take room, got {dtype}, of which any number fits")
    if any(type(side) is not int for side in shape):  # True is an int to NumPy's reader alone
        raise ValueError(f"Its shape must be of whole numbers, got {shape}")
    if any(side < 0 for side in shape):
        raise ValueError(f"Its shape must not be negative, got {shape}")
    return ArrayHeader(shape, dtype, is_fortran, head.tell())


def _most_inflated(stream: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return what a member may inflate to, by what there is of it in the file.

    Raises:
        zipfile.BadZipFile: the directory says more than there is.
    """
    end = stream.seek(0, io.SEEK_END)
    if info.header_offset + LOCAL_HEADER.size + info.compress_size > end:
        raise zipfile.BadZipFile(
            f"The directory says {info.compress_size} bytes, and the file ends before"
        )
    if info.compress_type == zipfile.ZIP_STORED:
        return info.compress_size
    return MOST_INFLATION * info.compress_size + LONGEST_HEADER


def _skip(stream: IO[bytes], count: int) -> None:
    """Read past some bytes; `seek` of a compressed member would hold up to 16 MB of them."""
    while count > 0:
        passed = len(stream.read(min(count, SKIP_BYTES)))
        if passed == 0:
            return
        count -= passed


def _inflated(stream: IO[bytes], archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if _is_read_by_zipfile(info):
        return archive.read(info)
    longest = info.file_size + info.file_size // 1000 + 1024  # of what does not get smaller
    if info.compress_size > longest:
        raise zipfile.BadZipFile(f"{info.compress_size} bytes for {info.file_size} are too many")
    packed = _packed(stream, info, info.compress_size)
    # A member that inflates to more than it says is cut off, and found out by its checksum.
    content = deflate.decompressobj(RAW_DEFLATE).decompress(packed, info.file_size + 1)
    if len(content) != info.file_size or deflate.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return bytes(content)


def _is_read_by_zipfile(info: zipfile.ZipInfo) -> bool:
    """Say whether a member has nothing to inflate, or is encrypted and refused there.

    Raises:
        ValueError: it is compressed in another way than NumPy does; Python's readers of these
            inflate without a limit.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"It must be stored or deflated, got method {info.compress_type}")
    is_encrypted = bool(info.flag_bits & 1)
    return info.compress_type == zipfile.ZIP_STORED or is_encrypted


def _packed(stream: IO[bytes], info: zipfile.ZipInfo, most_bytes: int) -> bytes:
    """Return the first bytes of a member as they are in the file."""
    stream.seek(info.header_offset)
    local = stream.read(LOCAL_HEADER.size)
    if len(local) < LOCAL_HEADER.size or not local.startswith(b"PK\3\4"):
        raise zipfile.BadZipFile(f"No header of {info.filename!r} where the directory says")
    name_length, extra_length = LOCAL_HEADER.unpack(local)[-2:]
    stream.seek(name_length + extra_length, io.SEEK_CUR)
    return stream.read(min(info.compress_size, most_bytes))
