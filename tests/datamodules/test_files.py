"""Download, archives and caches, with a server and files of their own."""

from __future__ import annotations

import gzip
import hashlib
import io
import multiprocessing
import os
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from official_files import wav_bytes

from lightning_alrnn import parsing
from lightning_alrnn.datamodules import files
from lightning_alrnn.datamodules.files import cached, default_cache_dir, fetch, read_members

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"error")
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_off_after])
        server.breaks_off_after = None

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    content = CONTENT
    status = 200
    ranges = True
    breaks_off_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


FORK = multiprocessing.get_context("fork")


def run_four(target: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    jobs = [FORK.Process(target=target, args=args, kwargs=kwargs) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4


def test_fetch(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "file"
    fetch(server.url, path, md5=MD5.upper())
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == {"file"}
    fetch("http://127.0.0.1:9/nobody", path, md5=MD5)  # it is there
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_transfer_is_no_file_and_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.breaks_off_after = ranges, 2_000_000
    path = tmp_path / "file"
    with pytest.raises(ConnectionError, match="stopped after 2000000 of 3000000 bytes") as error:
        fetch(server.url, path, md5=MD5)
    assert str(path) in str(error.value)
    assert server.url in str(error.value)
    assert (tmp_path / "file.part").stat().st_size == 2_000_000
    assert not path.exists()
    fetch(server.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-"]
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("surplus", [0, 10])
def test_a_part_that_is_complete_or_too_long(server: Server, tmp_path: Path, surplus: int) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + bytes(surplus))  # killed before the renaming; another file's
    fetch(server.url, tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == (2 if surplus else 1)


def test_a_wrong_checksum_names_file_and_source(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for wrong in ({"md5": "0" * 32}, {"md5": MD5, "decompressed": True}):
        with pytest.raises(ValueError, match=f"from {server.url} is not .*: its md5 must be .* put it at {path}"):
            fetch(server.url, path, **wrong)  # type: ignore[arg-type]
        assert {"file.part", "file"}.isdisjoint(names(tmp_path))
    (tmp_path / "file.part").write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"its md5 must be {MD5}, got "):
        fetch(server.url, path, md5=MD5)
    fetch(server.url, path, md5=MD5)


def test_checksum_of_what_a_gzip_file_holds(server: Server, tmp_path: Path) -> None:
    server.content = gzip.compress(CONTENT, 1)
    fetch(server.url, tmp_path / "file.gz", md5=MD5, decompressed=True)
    assert gzip.decompress((tmp_path / "file.gz").read_bytes()) == CONTENT
    server.content = server.content[:-5]
    with pytest.raises(ValueError, match="a file that is not gzip"):
        fetch(server.url, tmp_path / "again.gz", md5=MD5, decompressed=True)


@pytest.mark.parametrize("status", [404, 500, None])
def test_a_server_that_refuses_or_does_not_answer(server: Server, tmp_path: Path, status: int | None) -> None:
    server.status = status or 200
    url = server.url if status else "http://127.0.0.1:9/file"
    with pytest.raises(ConnectionError, match=f"file cannot be fetched from {url} .*by hand and put it at {tmp_path}"):
        fetch(url, tmp_path / "file", md5=MD5)


@pytest.mark.parametrize("locks", [True, False])
def test_many_fetch_at_once(server: Server, tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not locks:  # as on Windows
        monkeypatch.setattr(files, "fcntl", None)
    run_four(fetch, server.url, tmp_path / "file", md5=MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names(tmp_path) == {"file"}
    if locks:
        assert len(server.asked) == 1


def test_a_file_that_comes_before_the_lock_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    @contextmanager
    def late(lock: Path) -> Iterator[bool]:
        # another process has fetched the file and removed its lock since this one looked
        path.write_bytes(CONTENT)
        with locked(lock) as answer:
            yield answer

    locked = files._locked
    monkeypatch.setattr(files, "_locked", late)
    fetch("http://127.0.0.1:9/file", path, md5=MD5)
    assert names(tmp_path) == {"file"}


def tar_bytes(mode: str = "w", count: int = 6, size: int = 3_000) -> bytes:
    """An archive of files a/0, a/1 …, and of what must not be read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            other = tarfile.TarInfo("a/other")
            other.type, other.linkname = kind, "/etc/passwd"
            tar.addfile(other)
        for number, name in enumerate([*(f"./a/{number}" for number in range(count)), "../../evil"]):
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes([number]) * size))
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_in_their_order(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes(mode))
    read = dict(read_members(archive, lambda name: name != "a/3"))
    assert list(read) == ["a/0", "a/1", "a/2", "a/4", "a/5", "../../evil"]
    assert [content[0] for content in read.values()] == [0, 1, 2, 4, 5, 6]
    assert {len(content) for content in read.values()} == {3_000}
    assert names(tmp_path) == {"archive"}  # nothing is written


def test_what_is_read_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    after = tarfile.TarFile.next

    def counted(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        held.append(len(tar.members))  # type: ignore[attr-defined]
        return after(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    (tmp_path / "archive").write_bytes(tar_bytes(count=50))
    assert len(list(read_members(tmp_path / "archive", lambda name: True))) == 51
    assert max(held) <= 1


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_is_never_taken_for_a_whole_one(tmp_path: Path, mode: str) -> None:
    complete, archive = tar_bytes(mode), tmp_path / "archive"
    end = (
        len(complete) if mode == "w:gz" else len(complete.rstrip(b"\0"))
    )  # the last member's padding and blocks of zeros
    for size in {*range(0, end, max(1, end // 60)), *range(0, end - 511, 512), end - 1}:
        archive.write_bytes(complete[:size])
        with pytest.raises(ValueError, match=f"{archive} is not a complete tar archive .*fetch it again"):
            list(read_members(archive, lambda name: name == "a/0"))


@pytest.mark.parametrize("wanted", [False, True])
def test_an_archive_that_unpacks_to_a_hundred_times_its_size_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.setattr(parsing, "_SMALL", 1 << 20)
    archive, large = tmp_path / "archive.tar.gz", tarfile.TarInfo("a/0")
    large.size = 1 << 24
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(large, io.BytesIO(bytes(large.size)))
    most = 100 * archive.stat().st_size
    assert 1 << 20 < most < large.size
    with pytest.raises(ValueError, match=f"^{archive} unpacks to more than {most:,} bytes, .*: remove it and fetch"):
        list(read_members(archive, lambda name: wanted))


def test_zeros_behind_an_archive_are_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_SMALL", 1 << 20)
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(gzip.compress(tar_bytes() + bytes(1 << 24)))
    with pytest.raises(ValueError, match="unpacks to more than"):
        list(read_members(archive, lambda name: True))


def test_a_file_that_is_too_large_is_refused_in_an_archive_and_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_OF_FILE", 2_999)
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes())
    message = "has 3,000 bytes, but at most 2,999 are read of such a file: get the original"
    with pytest.raises(ValueError, match=f"^a/0 in {archive} {message}"):
        list(read_members(archive, lambda name: True))
    assert list(read_members(archive, lambda name: False)) == []
    path = tmp_path / "0"
    path.write_bytes(bytes(3_000))
    with pytest.raises(ValueError, match=f"^{path} {message}"):
        files.read_file(path)
    path.write_bytes(bytes(2_999))
    assert len(files.read_file(path)) == 2_999


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_properties_of_any_size_are_not_read(tmp_path: Path, kind: bytes) -> None:
    archive, header = tmp_path / "archive", tarfile.TarInfo("a/0")
    header.type, header.size = kind, 1 << 17
    archive.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 17) + tar_bytes())
    with pytest.raises(ValueError, match="a/0 is no plain file, or has 131,072 bytes of properties"):
        list(read_members(archive, lambda name: True))


def test_arrays_that_unpack_to_a_hundred_times_their_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, arrays = tmp_path / "x.npz", {"x": np.zeros(1 << 17)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    assert files.read_npz(path, ("x",), (), "…")["x"].size == 1 << 17  # small ones may be
    monkeypatch.setattr(parsing, "_SMALL", 1 << 10)
    with pytest.raises(ValueError, match=rf"^{path} unpacks to 1,048,704 bytes, .* np.savez, which does not compress"):
        files.read_npz(path, ("x",), (), "…")
    np.savez(path, **arrays)  # type: ignore[arg-type]
    assert files.read_npz(path, ("x",), (), "…")["x"].size == 1 << 17


def test_a_shape_beyond_the_memory_is_an_error_of_the_file(tmp_path: Path) -> None:
    path, header = tmp_path / "x.npz", io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**44,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(ValueError, match=f"^x in {path} cannot be read .*: save it again"):
        files.read_npz(path, ("x",), (), "save it again")


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_damage_is_noticed(tmp_path: Path, mode: str, data: st.DataObject) -> None:
    """A gzip file has a checksum over all of it; a plain archive one over each header."""
    complete = tar_bytes(mode, count=3, size=700)
    # the first ten bytes of a gzip file hold a time and such, which nothing depends on
    at = data.draw(st.integers(10 if mode == "w:gz" else 0, len(complete) - 1))
    damaged = bytearray(complete)
    damaged[at] ^= data.draw(st.integers(1, 255))
    archive = tmp_path / "archive"
    archive.write_bytes(damaged)
    expected = {name: bytes([number]) * 700 for number, name in enumerate(["a/0", "a/1", "a/2", "../../evil"])}
    try:
        read = dict(read_members(archive, lambda name: True))
    except ValueError:
        return
    assert list(read) == list(expected)
    if mode == "w:gz":
        assert read == expected


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"12345")
    return path


def counted(value: int = 0) -> tuple[Callable[[], dict[str, Any]], list[int]]:
    calls: list[int] = []

    def build() -> dict[str, Any]:
        calls.append(value)
        return {"x": np.arange(value, value + 6, dtype=np.int16).reshape(2, 3), "words": np.array(["a", "bc"])}

    return build, calls


def test_cache_is_built_once(tmp_path: Path, source: Path) -> None:
    build, calls = counted()
    folder = tmp_path / "new" / "cache"
    for _ in range(2):
        arrays = cached(folder, "some", {"hop": 3, "words": ["a"]}, [source], build)
        assert arrays["x"].dtype == np.int16
        assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert arrays["words"].tolist() == ["a", "bc"]
    assert calls == [0]
    (path,) = folder.iterdir()
    assert path.name.startswith("some-")
    # the order of settings, and where the sources lie, do not matter
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    source = source.rename(moved / "source")
    cached(folder, "some", {"words": ["a"], "hop": 3}, [source], build)
    assert calls == [0]


def test_cache_is_built_anew_when_anything_changes(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, calls = counted()
    folder = tmp_path / "cache"
    cached(folder, "some", {"hop": 3}, [source], build)
    cached(folder, "other", {"hop": 3}, [source], build)
    cached(folder, "some", {"hop": 4}, [source], build)
    other = tmp_path / "other"
    other.write_bytes(b"12345")
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    cached(folder, "some", {"hop": 3}, [other], build)
    cached(folder, "some", {"hop": 3}, [source, other], build)
    os.utime(source, ns=(0, 1))
    cached(folder, "some", {"hop": 3}, [source], build)
    source.write_bytes(b"123456")
    os.utime(source, ns=(0, 1))
    cached(folder, "some", {"hop": 3}, [source], build)
    for name in "ab":  # a file of the same name in another folder
        (tmp_path / name).mkdir()
        other = other.rename(tmp_path / name / "other")
        cached(folder, "some", {"hop": 3}, [source, other], build)
    monkeypatch.setattr(files, "_CACHE_FORMAT", -1)
    cached(folder, "some", {"hop": 3}, [source], build)
    assert len(calls) == len(names(folder)) == 10


X = np.arange(6, dtype=np.int16).tobytes()
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    **{f"cut at {at}": (lambda content, at=at: content[:at]) for at in (0, 10, 150, 200, -1)},
    "changed": lambda content: content.replace(X, X[::-1]),
    "header": lambda content: content.replace(b"\x93NUMPY", b"\x93NUMPI"),
    "another archive": lambda content: content[:-32] + bytes(32),
}


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_built_anew(tmp_path: Path, source: Path, damage: str, mapped: bool) -> None:
    build, calls = counted()
    folder, names_mapped = tmp_path / "cache", ["x"] if mapped else []
    cached(folder, "some", {}, [source], build, mapped=names_mapped)
    (path,) = folder.iterdir()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(UserWarning, match=f"the cache {path} cannot be read"):
        arrays = cached(folder, "some", {}, [source], build, mapped=names_mapped)
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(arrays["x"], np.memmap) == mapped
    cached(folder, "some", {}, [source], build, mapped=names_mapped)
    assert len(calls) == 2


def flip_bits(folder: Path, source: Path, count: int) -> tuple[int, int]:
    """Flip one bit of a cache at a time; return how often other arrays came, without and with a warning."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 30)).astype(np.float16)

    def build() -> dict[str, Any]:
        built.append(True)
        return {"features": features, "lengths": np.arange(20), "words": np.array(["a", "bc"])}

    built: list[bool] = []
    cached(folder, "some", {}, [source], build, mapped=["features"])
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    silent = noticed = 0
    for bit in np.sort(rng.choice(8 * len(whole), min(count, 8 * len(whole)), replace=False)).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        files._check_once.cache_clear()  # as in another process
        built.clear()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            arrays = cached(folder, "some", {}, [source], build, mapped=["features"])
        same = all(np.array_equal(arrays[key], value) for key, value in build().items())
        assert len(built) == 1 + len(said), "a warning says that the cache is built again"
        silent += not same
        noticed += len(said)
    return silent, noticed


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("unsynced")
def test_no_flipped_bit_of_a_cache_gives_other_arrays(tmp_path: Path, source: Path) -> None:
    assert flip_bits(tmp_path / "cache", source, 100) == (0, 100)


@pytest.mark.slow
@pytest.mark.usefixtures("unsynced")
def test_no_bit_of_a_cache_can_be_flipped_unnoticed(tmp_path: Path, source: Path) -> None:
    assert flip_bits(tmp_path / "cache", source, 5072) == (0, 5072)


def test_a_cache_is_checked_once_in_each_process(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, checksum = [], files._checksum
    monkeypatch.setattr(files, "_checksum", lambda file, size: checked.append(size) or checksum(file, size))
    for _ in range(3):
        cached(tmp_path / "cache", "some", {}, [source], counted()[0], mapped=["x"])
    assert len(checked) == 2  # once to write it


def test_mapped_arrays(tmp_path: Path, source: Path) -> None:
    build, calls = counted()
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(300, 7)).astype(np.float16))
    for _ in range(2):
        arrays = cached(tmp_path, "some", {}, [source], lambda: {**build(), "y": x, "z": x.T}, mapped=["y", "z"])
        for name, expected in (("y", x), ("z", x.T)):
            array = arrays[name]
            assert isinstance(array, np.memmap)
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
            assert np.array_equal(array, expected)
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 1
        assert not isinstance(arrays["x"], np.memmap)
        assert arrays["words"].tolist() == ["a", "bc"]
    assert calls == [0]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: io.BufferedWriter, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        cached(tmp_path / "cache", "some", {}, [source], counted()[0])
    assert names(tmp_path / "cache") == set()


def test_errors_of_building_are_not_swallowed(tmp_path: Path, source: Path) -> None:
    def fails() -> dict[str, Any]:
        raise OSError("no such clip")

    with pytest.raises(OSError, match="no such clip"):
        cached(tmp_path / "cache", "some", {}, [source], fails)
    with pytest.raises(FileNotFoundError, match="missing"):
        cached(tmp_path / "cache", "some", {}, [tmp_path / "missing"], fails)


def _build_and_cache(folder: Path, source: Path, barrier: Any) -> None:
    def build() -> dict[str, Any]:
        barrier.wait(timeout=20)  # all of them build at once
        return {"x": np.arange(200_000)}

    if int(cached(folder, "some", {}, [source], build)["x"].sum()) != 200_000 * 199_999 // 2:
        raise SystemExit(1)


def test_many_cache_at_once(tmp_path: Path, source: Path) -> None:
    run_four(_build_and_cache, tmp_path / "c", source, FORK.Barrier(4))
    assert len(names(tmp_path / "c")) == 1


def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "lightning_alrnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/lightning_alrnn")


BOMBS = """
import resource, sys
from pathlib import Path
from lightning_alrnn.datamodules import Arrays, files, mnist, wav

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

readers = {
    "clips.tar.gz": lambda path: list(files.read_members(path, lambda name: True)),
    "name.tar.gz": lambda path: list(files.read_members(path, lambda name: True)),
    "images.gz": lambda path: mnist.read_idx(path, 3),
    "mine.npz": lambda path: Arrays(path),
    "slow.wav": lambda path: wav.read_wav(path.read_bytes(), str(path)),
    "fast.wav": lambda path: wav.read_wav(path.read_bytes(), str(path)),
}
before = peak()
for name, read in readers.items():
    try:
        read(Path(name))
    except ValueError as error:
        assert name in str(error) and "\\\\n" not in str(error)
        print(name, peak() - before)
"""


@pytest.mark.slow
def test_bombs_of_4_gigabytes_are_refused_in_the_memory_of_a_small_file(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(1 << 26)) * 64  # a gzip file may have several parts
    for name, kind in (("clips", tarfile.REGTYPE), ("name", tarfile.GNUTYPE_LONGNAME)):
        header = tarfile.TarInfo("a/0")
        header.type, header.size = kind, 1 << 32
        (tmp_path / f"{name}.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT)) + zeros)
    (tmp_path / "images.gz").write_bytes(gzip.compress(struct.pack(">4I", 0x803, 60_000, 28, 28)) + zeros)
    with (
        zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("inputs.npy", "w", force_zip64=True) as member,
    ):
        header_of_array = {"descr": "<f8", "fortran_order": False, "shape": (1 << 23, 8, 8)}
        np.lib.format.write_array_header_1_0(member, header_of_array)
        for _ in range(64):
            member.write(bytes(1 << 26))
    clip = wav_bytes(bytes(32_000))
    for name, rate in (("slow", 1), ("fast", 2**32 - 5)):
        (tmp_path / f"{name}.wav").write_bytes(clip[:24] + struct.pack("<I", rate) + clip[28:])
    output = subprocess.check_output([sys.executable, "-c", BOMBS], cwd=tmp_path, text=True)
    growth = {name: float(grown) for name, grown in (line.split() for line in output.splitlines())}
    assert len(growth) == 6
    assert max(growth.values()) < 100, growth  # MiB
