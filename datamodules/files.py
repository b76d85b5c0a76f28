"""Real data on disk: download, archives read as streams, and a cache of what was made of them."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import posixpath
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn
from numpy.typing import NDArray
from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_CACHE_FORMAT = 1  # another number makes all that was cached before be built again
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def default_cache_dir() -> Path:
    """Where arrays are cached unless told otherwise: ``$XDG_CACHE_HOME/lightning_alrnn`` or ``~/.cache/…``."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "lightning_alrnn"


def fetch(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    decompressed: bool = False,
) -> None:
    """Download a file, unless it is there already.

    The bytes go to ``<path>.part``, from where a later call takes the transfer up again, and get their own name once
    they are complete and their checksum is right, which is that of what the gzip file holds where ``decompressed``.
    Processes that fetch the same file at once wait for one another.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with _locked(lock) as locked:
        if not path.is_file():  # no other process was first
            # without a lock nobody else may write to the same file; what is lost is the resumption
            part = path.with_name(f"{path.name}.part" if locked else f"{path.name}.{uuid4().hex}.part")
            try:
                _download(url, part, path)
                _verify(url, part, path, {"md5": md5, "sha256": sha256}, decompressed)
                part.replace(path)
            finally:
                if not locked:
                    part.unlink(missing_ok=True)
    # whoever waits for the lock, or makes a new one, finds the file
    lock.unlink(missing_ok=True)


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of files in a ``.tar`` or ``.tar.gz`` in their order, without unpacking it.

    Nothing is written, so it does not matter where a member's name points. Links and devices are passed over. Names
    come without a leading ``./``. The archive is read to its end: what was yielded is to be dropped where it turns out
    to be damaged behind the last member that is wanted.
    """
    advice = "remove it and fetch it again"
    with archive.open("rb") as raw, _progress(f"reading {archive.name}", archive.stat().st_size) as bar:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or it would grow by every member
                    bar.update(raw.tell() - bar.n)
                    name = posixpath.normpath(member.name)
                    if member.isreg() and wanted(name):
                        content = tar.extractfile(member)
                        if content is not None:
                            yield name, content.read()
                # a damaged header ends an archive without an error; an archive ends with a block of zeros
                end = tar.offset
                for block in iter(lambda: tar.fileobj.read(_CHUNK), b""):
                    if block.strip(b"\0"):
                        raise tarfile.ReadError(f"no header where one was expected, at byte {end}")
                if tar.fileobj.tell() < end + tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
                bar.update(raw.tell() - bar.n)
        except _DAMAGED as error:
            raise ValueError(
                f"{archive} is not a complete tar archive ({error}): it may be truncated; {advice}"
            ) from error


def cached(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    sources: Sequence[Path],
    build: Callable[[], dict[str, NDArray[Any]]],
    *,
    mapped: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Arrays that take long to build, from a file if they were built before with the same settings and sources.

    The file is ``<folder>/<name>-<hash>.npz``. The hash is taken over the settings and over the names, sizes and times
    of the sources, so a change of any of them builds anew. Several runs may build at once: each writes a file of its
    own, and the last one stays. A folder that cannot be written to costs a warning, not the run. Arrays that are
    ``mapped`` into memory and not read take time and memory only where they are used, and processes share them; they
    cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for _ in range(2):
        ...         arrays = cached(Path(folder), "squares", {"count": 4}, [], lambda: {"x": np.arange(4) ** 2})
        >>> arrays["x"]
        array([0, 1, 4, 9])
    """
    path = folder / f"{name}-{_digest(settings, sources)}.npz"
    try:
        return _read_arrays(path, mapped)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        rank_zero_warn(f"the cache {path} cannot be read ({error}) and is built again")
    arrays = build()
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as new:
                np.savez(new, allow_pickle=False, **arrays)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if mapped:
            return _read_arrays(path, mapped)
    except OSError as error:
        rank_zero_warn(
            f"{name} could not be cached in {folder} ({error}) and will be built again by the next run: set cache_dir "
            "to a folder that can be written to and has space"
        )
    return arrays


def _read_arrays(path: Path, mapped: Collection[str]) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {
            key: _map_array(path, archive.zip.getinfo(f"{key}.npy")) if key in mapped else archive[key]
            for key in archive.files
        }


def _map_array(path: Path, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Map an array that is stored in an archive without compression, as NumPy's ``savez`` does."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # where the zip format has the lengths of two fields before the content
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, os.SEEK_CUR)
        if member.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member.filename} cannot be mapped")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")


class _Answer(NamedTuple):
    """What a server gives: a stream that starts at byte ``start`` of ``total`` (``None`` if it does not say)."""

    stream: IO[bytes]
    start: int
    total: int | None


def _download(url: str, part: Path, path: Path) -> None:
    """Bring ``part`` to its full size."""
    advice = f"Run it again to go on, or fetch the file by hand and put it at {path}"
    held = part.stat().st_size if part.is_file() else 0
    try:
        answer = _request(url, held)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{path.name} cannot be fetched from {url} ({error}). {advice}") from error
    with answer.stream, part.open("ab") as file, _progress(f"fetching {path.name}", answer.total) as bar:
        rank_zero_info(f"fetching {url} to {path}")
        file.truncate(answer.start)
        bar.update(answer.start)
        while chunk := _read(answer.stream, url, path, advice):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())  # or a power failure may leave a name without its bytes
        size = file.tell()
    if answer.total is not None and size != answer.total:
        raise ConnectionError(f"{path.name} stopped after {size} of {answer.total} bytes from {url}. {advice}")


def _request(url: str, held: int) -> _Answer:
    """Ask for what is missing behind the first ``held`` bytes, or for all where a server does not give parts."""
    request = urllib.request.Request(url, headers={"User-Agent": "lightning-alrnn"})
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if held == 0 or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").strip() == f"bytes */{held}":
            error.close()
            return _Answer(io.BytesIO(), held, held)  # nothing is missing
        error.close()
        return _request(url, 0)
    length = response.headers.get("Content-Length")
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return _Answer(response, 0, None if length is None else int(length))
    if not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
        response.close()
        return _request(url, 0)
    return _Answer(response, held, None if length is None else held + int(length))


def _read(stream: IO[bytes], url: str, path: Path, advice: str) -> bytes:
    """The next bytes of a transfer; apart from the writing, whose errors are not the network's."""
    try:
        return stream.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{path.name} stopped while it was fetched from {url} ({error}). {advice}") from error


def _verify(url: str, part: Path, path: Path, expected: dict[str, str | None], decompressed: bool) -> None:
    for algorithm, checksum in expected.items():
        if checksum is None:
            continue
        try:
            with gzip.open(part) if decompressed else part.open("rb") as file:
                digest = hashlib.file_digest(file, algorithm).hexdigest()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            digest = f"no gzip file, {error}"
        if digest != checksum.lower():
            part.unlink()
            raise ValueError(
                f"{path.name} from {url} is not the expected file: its {algorithm} must be {checksum}, got {digest}. "
                f"It was removed: run it again, or fetch the file elsewhere and put it at {path}"
            )


@contextmanager
def _locked(lock: Path) -> Iterator[bool]:
    """Keep other processes out; gives whether that was possible."""
    with lock.open("ab") as file:
        locked = fcntl is not None
        if locked:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # released by the system, also when the process is killed
            except OSError:  # some network file systems have no locks
                locked = False
        yield locked


def _progress(what: str, total: int | None) -> tqdm[Any]:
    """A bar of bytes on the first process, in a terminal."""
    disable = True if getattr(rank_zero_only, "rank", 0) else None
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, leave=False, disable=disable)


def _digest(settings: Mapping[str, Any], sources: Sequence[Path]) -> str:
    folder = os.path.commonpath([path.parent.resolve() for path in sources]) if sources else ""
    stats = [(path, path.stat()) for path in sources]
    files = [(os.path.relpath(path.resolve(), folder), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    text = json.dumps([_CACHE_FORMAT, settings, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
