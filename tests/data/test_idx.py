"""read_idx: every type, and every way in which a file can be wrong."""

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnpar.data import read_idx

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PACKINGS = pytest.mark.parametrize("pack", [bytes, lambda raw: gzip.compress(raw, mtime=0)], ids=["plain", "gzip"])
MIB = 2**20


def idx(code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


SMALL = idx(0x0B, (2, 3), bytes(range(12)))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], np.ndarray]:
    """Reads these bytes, from a file whose name says nothing."""

    def read(raw: bytes) -> np.ndarray:
        path = tmp_path / "file"
        path.write_bytes(raw)
        return read_idx(path)

    return read


@pytest.fixture
def peak_memory():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@PACKINGS
@pytest.mark.parametrize(("code", "dtype"), TYPES.items())
def test_reads_every_type(read, pack, code, dtype):
    expected = np.array([[0, 1, 2], [3, 100, 127]], dtype)
    array = read(pack(idx(code, expected.shape, expected.tobytes())))
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.dtype(dtype).newbyteorder("=")
    assert array.dtype.isnative
    assert array.flags.writeable


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 4), (1,) * 64])
def test_reads_every_number_of_dimensions(read, shape):
    n = int(np.prod(shape))
    np.testing.assert_array_equal(read(idx(0x08, shape, bytes(range(n)))), np.arange(n).reshape(shape))


def test_reads_more_than_one_chunk(read):
    expected = np.arange(3 * MIB // 4 + 1, dtype=">i4")
    np.testing.assert_array_equal(read(idx(0x0C, expected.shape, expected.tobytes())), expected)


def test_reads_gzip_of_several_members(read):
    expected = read(SMALL)
    np.testing.assert_array_equal(read(gzip.compress(SMALL[:7]) + gzip.compress(SMALL[7:])), expected)


def test_content_tells_gzip_not_the_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(SMALL)
    assert read_idx(str(tmp_path / "plain.gz")).shape == (2, 3)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        read_idx(tmp_path / "no-such-file")


@PACKINGS
def test_refuses_every_truncation(read, pack):
    whole = pack(SMALL)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"file: expected .* got"):
            read(whole[:length])


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_refuses_every_truncation_inside_gzip(read, length):
    with pytest.raises(ValueError, match=r"file: expected .* got"):
        read(gzip.compress(SMALL[:length]))


@PACKINGS
@pytest.mark.parametrize("tail", [b"\0", b"\0" * 1000])
def test_refuses_trailing_data(read, pack, tail):
    with pytest.raises(ValueError, match=r"file: expected 12 bytes of data for shape \(2, 3\), got more"):
        read(pack(SMALL + tail))


def test_refuses_data_after_gzip(read):
    with pytest.raises(ValueError, match="file: expected a whole gzip file"):
        read(gzip.compress(SMALL) + b"more")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "expected an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "expected an IDX file: .* got '89 50 4e 47'"),
        (idx(0x0A, (1,), b"\0"), "expected an IDX file: .* got '00 00 0a 01'"),
        (b"\1" + SMALL[1:], "expected an IDX file: .* got '01 00 0b 02'"),
        (idx(0x08, (), b"\0"), "expected 1 to 64 dimensions, got 0"),
        (idx(0x08, (1,) * 65, b"\0"), "expected 1 to 64 dimensions, got 65"),
        (idx(0x08, (2, 3), b"")[:-1], "expected 8 bytes of sizes, got 7"),
        (idx(0x0C, (2,), b"\0" * 7), r"expected 8 bytes of data for shape \(2,\), got only 7"),
        (idx(0x08, (0, 28), b""), r"expected 1 to 4294967296 bytes of data, got shape \(0, 28\): 0 bytes"),
        (idx(0x08, (0, *[2**32 - 1] * 63), b""), "expected 1 to 4294967296 bytes of data"),
        (idx(0x0E, (2**32 - 1,) * 64, b""), "expected 1 to 4294967296 bytes of data"),
    ],
)
def test_refuses_a_wrong_header(read, raw, message):
    for packed in (raw, gzip.compress(raw)):
        with pytest.raises(ValueError, match=f"file: {message}"):
            read(packed)


@PACKINGS
def test_flipped_bits_are_refused_or_harmless(read, pack, peak_memory):
    whole = pack(SMALL)
    n_bytes = len(whole) if whole[:2] == b"\x1f\x8b" else len(SMALL) - 12  # the checksum guards all of a gzip file
    refusals = []
    for bit in range(8 * n_bytes):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            array = read(bytes(damaged))
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert array.nbytes == 12
    assert refusals
    assert all("file: expected " in refusal for refusal in refusals)
    assert peak_memory() < 3 * MIB


@PACKINGS
@pytest.mark.parametrize("shape", [(2**32 - 1,), (2**16, 2**15), (2**32 - 1,) * 4])
def test_a_header_alone_takes_no_memory(read, pack, shape, peak_memory):
    with pytest.raises(ValueError, match="file: expected"):
        read(pack(idx(0x08, shape, b"\0" * 100)))
    assert peak_memory() < 3 * MIB


def test_a_bomb_behind_a_small_header_takes_no_memory(read, peak_memory):
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(idx(0x08, (10,), b""))
    bomb += b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
    with pytest.raises(ValueError, match=r"expected 10 bytes of data .* got more"):
        read(bomb)
    assert peak_memory() < 3 * MIB


def test_max_bytes_bounds_the_array(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(SMALL)
    assert read_idx(path, max_bytes=12).nbytes == 12
    with pytest.raises(ValueError, match=r"file: expected 1 to 11 bytes of data, got shape \(2, 3\): 12 bytes"):
        read_idx(path, max_bytes=11)
