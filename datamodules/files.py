"""Real data on disk: download, archives, and a cache of the arrays that are made from them."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import http.client
import io
import json
import os
import posixpath
import struct
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self
from uuid import uuid4

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn
from numpy.typing import NDArray
from tqdm import tqdm

from lightning_alrnn.batch import AnyBatch, Split
from lightning_alrnn.datamodules.base import SequenceDataModule
from lightning_alrnn.files import replacing, sync_folder
from lightning_alrnn.parsing import most_unpacked, reason_of, shorten

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BYTES: dict[str, Any] = {"unit": "B", "unit_scale": True}
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_CACHE_FORMAT = 2  # with another number, all earlier caches are built again
_BAD_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
_MOST_OF_FILE = 1 << 24  # bytes of a clip, a review or a list
_MOST_PROPERTIES = 1 << 16  # bytes of a long name or of other properties of a file in an archive
_PROPERTIES = (b"x", b"g", b"X", b"L", b"K")  # the types of their headers


def default_cache_dir() -> Path:
    """The default folder of the cache: ``$XDG_CACHE_HOME/lightning_alrnn`` or ``~/.cache/lightning_alrnn``."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "lightning_alrnn"


def fetch(url: str, path: Path, *, md5: str, decompressed: bool = False) -> None:
    """Download a file unless it exists; the checksum may be that of the decompressed bytes."""
    # The bytes go to <path>.part, from which a later call resumes. Processes with the same file wait for each other.
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with _locked(lock) as locked:
        if not path.is_file():  # no other process was first
            # without a lock each process writes to its own file, which cannot be resumed
            part = path.with_name(f"{path.name}.part" if locked else f"{path.name}.{uuid4().hex}.part")
            try:
                _download(url, part, path)
                _verify(url, part, path, md5, decompressed)
                part.replace(path)
                sync_folder(path.parent)
            finally:
                if not locked:
                    part.unlink(missing_ok=True)
    # processes that wait for the lock, or make a new one, find the file
    lock.unlink(missing_ok=True)


class _TarInfo(tarfile.TarInfo):
    """The header of a file in an archive; ``tarfile`` would hold properties of any size in memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.GNUTYPE_SPARSE or (header.type in _PROPERTIES and header.size > _MOST_PROPERTIES):
            raise tarfile.ReadError(f"{header.name} is no plain file, or has {header.size:,} bytes of properties")
        return header


def read_file(path: Path) -> bytes:
    """The content of a file of an unpacked archive, which must be small."""
    with path.open("rb") as file:
        content = file.read(_MOST_OF_FILE + 1)
    if len(content) > _MOST_OF_FILE:
        raise ValueError(_too_large(str(path), path.stat().st_size))
    return content


def _too_large(name: str, size: int) -> str:
    return f"{name} has {size:,} bytes, but at most {_MOST_OF_FILE:,} are read of such a file: get the original"


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wanted files of a ``.tar`` or ``.tar.gz``, without unpacking it."""
    # The archive is read to its end: if it is damaged after the last file, this fails after all files were yielded.
    size, most_of_all = archive.stat().st_size, most_unpacked(archive)
    bomb = ValueError(
        f"{archive} unpacks to more than {most_of_all:,} bytes, which the original does not: remove it and fetch it "
        "again"
    )
    with archive.open("rb") as raw, progress(None, f"reading {archive.name}", total=size, **_BYTES) as bar:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarInfo) as tar:
                while (member := tar.next()) is not None:
                    if tar.offset > most_of_all:  # the end of this file, which has not been read
                        raise bomb
                    tar.members.clear()  # type: ignore[attr-defined]  # else the list grows with every member
                    bar.update(raw.tell() - bar.n)
                    name = posixpath.normpath(member.name)
                    if member.isreg() and wanted(name) and (content := tar.extractfile(member)) is not None:
                        if member.size > _MOST_OF_FILE:
                            raise ValueError(_too_large(f"{name} in {archive}", member.size))
                        yield name, content.read()
                # a damaged header ends an archive without an error; an archive ends with a block of zeros
                end = tar.offset
                for block in iter(lambda: tar.fileobj.read(_CHUNK), b""):
                    if block.strip(b"\0"):
                        raise tarfile.ReadError(f"no header where one was expected, at byte {end}")
                    if tar.fileobj.tell() > most_of_all:
                        raise bomb
                if tar.fileobj.tell() < end + tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
                bar.update(raw.tell() - bar.n)
        except (tarfile.TarError, *_BAD_GZIP) as error:
            raise ValueError(
                f"{archive} is not a complete tar archive ({error}): it may be truncated; remove it and fetch it again"
            ) from error


def read_npz(
    path: Path,
    needed: Collection[str],
    optional: Collection[str],
    advice: str,
    *,
    advice_on_objects: Callable[[str], str] | None = None,
    synonyms: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, NDArray[Any]]:
    """Read all arrays of a ``.npz`` archive, which must have the needed names and may have the optional ones.

    ``advice_on_objects`` says what to do about a named array of Python objects, instead of ``advice``. ``synonyms`` are
    names that others use, with the names that they probably stand for.
    """
    with path.open("rb") as file:  # np.load would leave a broken archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:  # damaged bytes can raise anything, such as a SyntaxError
            raise ValueError(f"{path} is not a .npz archive of arrays ({reason_of(error)}): {advice}") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"{path} is a single array, not an archive: {advice}")
        names = archive.files
        if not set(needed) <= set(names) <= {*needed, *optional}:
            raise ValueError(f"{path} {_wrong_names(names, needed, optional, synonyms)}")
        unpacked, most = sum(member.file_size for member in zipfile.ZipFile(file).infolist()), most_unpacked(path)
        if unpacked > most:
            raise ValueError(
                f"{path} unpacks to {unpacked:,} bytes, but only {most:,} are unpacked of a file of its size: if these "
                "are your arrays, save them with np.savez, which does not compress"
            )
        arrays = {}
        for name in names:
            try:
                arrays[name] = check_array(archive[name])
            except Exception as error:
                if str(error).startswith("Object arrays"):
                    what = f"{name} in {path} is a pickle of Python objects, which is never loaded"
                    raise TypeError(f"{what}: {advice_on_objects(name) if advice_on_objects else advice}") from error
                raise ValueError(f"{name} in {path} cannot be read ({reason_of(error)}): {advice}") from error
    return arrays


def _wrong_names(
    names: Collection[str], needed: Collection[str], optional: Collection[str], synonyms: Mapping[str, str]
) -> str:
    """What is wrong with the names of an archive, and what they may be."""
    known = {**{name: name for name in (*needed, *optional)}, **synonyms}
    unknown = [name for name in names if name not in needed and name not in optional]
    text = f"has no {' and no '.join(name for name in needed if name not in names)}"
    if unknown:
        listed = ", ".join(name if name.isprintable() else repr(name) for name in map(shorten, unknown))
        text = f"has the unknown key{'s' if len(unknown) > 1 else ''} {listed}"
        closest = [difflib.get_close_matches(name.lower(), known, n=1) for name in unknown]
        meant = list(dict.fromkeys(known[found[0]] for found in closest if found and known[found[0]] not in names))
        text += f"; did you mean {', '.join(meant)}?" if meant else "."
    else:
        text += "."
    return f"{text} An archive must have {', '.join(needed)} and may have {', '.join(optional)}"


def check_array(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array from a file, or raise ``ValueError`` if it is none or has numbers that are no characters."""
    if not isinstance(array, np.ndarray):  # np.load returns the bytes of whatever is in an archive
        raise ValueError("it is not in the format of NumPy")
    if array.dtype.kind == "U" and array.dtype.itemsize:
        points = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).view(np.uint32)
        if ((points > sys.maxunicode) | ((points >= 0xD800) & (points < 0xE000))).any():
            raise ValueError("it has numbers that are no characters")
    return array


def cached(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    sources: Sequence[Path],
    build: Callable[[], dict[str, NDArray[Any]]],
    *,
    mapped: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Build arrays, or read them from a file if they were built before with the same settings and sources."""
    # The name has a hash of the settings and of the names, sizes and times of the sources. Several runs may build at
    # once: each writes its own file, and the last one stays. Mapped arrays are read only where they are used, too late
    # for the checksums of the zip format, so the file ends with one of all its bytes.
    path = folder / f"{name}-{_digest(settings, sources)}.npz"
    try:
        return _read_arrays(path, mapped)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        rank_zero_warn(f"the cache {path} cannot be read ({error}) and is built again")
    arrays = build()
    try:
        with replacing(path) as new:
            np.savez(new, allow_pickle=False, **arrays)
            size = new.tell()
            new.seek(0)
            new.write(_checksum(new, size))
        if mapped:
            return _read_arrays(path, mapped)
    except OSError as error:
        rank_zero_warn(
            f"{name} could not be cached in {folder} ({error}) and will be built again by the next run: set cache_dir "
            "to a folder that can be written to and has space"
        )
    return arrays


def _read_arrays(path: Path, mapped: Collection[str]) -> dict[str, NDArray[Any]]:
    stat = path.stat()
    _check_once(path.resolve(), stat.st_size, stat.st_mtime_ns)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {
            key: _map_array(path, archive.zip.getinfo(f"{key}.npy")) if key in mapped else archive[key]
            for key in archive.files
        }


@lru_cache  # reading gigabytes takes seconds, and a population reads the same file for each of its members
def _check_once(path: Path, size: int, time: int) -> None:
    """Raise ``ValueError`` unless a file of this size and time ends with its checksum; look once in each process."""
    # the checksums of the zip format leave out its table of contents, which can lose an array by a single bit
    with path.open("rb") as file:
        if _checksum(file, size - hashlib.sha256().digest_size) != file.read():
            raise ValueError("its checksum is another")


def _checksum(file: IO[bytes], size: int) -> bytes:
    """The checksum of the next ``size`` bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def _map_array(path: Path, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Map an array of an archive without compression, as ``np.savez`` writes it."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # the zip format has the lengths of two fields here, then the content
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, os.SEEK_CUR)
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")


def _download(url: str, part: Path, path: Path) -> None:
    """Fetch the bytes that are missing in ``part``."""
    advice = f"Run it again to resume, or fetch the file by hand and put it at {path}"
    try:
        stream, start, total = _request(url, part.stat().st_size if part.is_file() else 0)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{path.name} cannot be fetched from {url} ({error}). {advice}") from error
    with stream, part.open("ab") as file, progress(None, f"fetching {path.name}", total=total, **_BYTES) as bar:
        rank_zero_info(f"fetching {url} to {path}")
        file.truncate(start)
        bar.update(start)
        while chunk := _read(stream, url, path, advice):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())  # else a power failure may leave a name without its bytes
        size = file.tell()
    if total is not None and size != total:
        raise ConnectionError(f"the transfer of {path.name} from {url} stopped after {size} of {total} bytes. {advice}")


def _request(url: str, start: int) -> tuple[IO[bytes], int, int | None]:
    """A file from byte ``start`` on, or all of it if the server does not send parts; the start; the size if known."""
    request = urllib.request.Request(url, headers={"User-Agent": "lightning-alrnn"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if start == 0 or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        if error.headers.get("Content-Range", "").strip() == f"bytes */{start}":
            return io.BytesIO(), start, start  # nothing is missing
        return _request(url, 0)
    length = response.headers.get("Content-Length")
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return response, 0, None if length is None else int(length)
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        return _request(url, 0)
    return response, start, None if length is None else start + int(length)


def _read(stream: IO[bytes], url: str, path: Path, advice: str) -> bytes:
    """The next bytes of a transfer. Errors while writing are not errors of the network, so they are not caught."""
    try:
        return stream.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"the transfer of {path.name} from {url} stopped ({error}). {advice}") from error


def _verify(url: str, part: Path, path: Path, md5: str, decompressed: bool) -> None:
    try:
        with gzip.open(part) if decompressed else part.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except _BAD_GZIP as error:
        digest = f"a file that is not gzip ({error})"
    if digest != md5.lower():
        part.unlink()
        raise ValueError(
            f"{path.name} from {url} is not the expected file: its md5 must be {md5}, got {digest}. The file was "
            f"removed: run it again, or fetch the file elsewhere and put it at {path}"
        )


@contextmanager
def _locked(lock: Path) -> Iterator[bool]:
    """Lock out other processes; yield whether that was possible."""
    with lock.open("ab") as file:
        locked = fcntl is not None
        if locked:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # released by the system, also when the process is killed
            except OSError:  # some network file systems have no locks
                locked = False
        yield locked


def progress(items: Iterable[Any] | None, text: str, **options: Any) -> tqdm[Any]:
    """A progress bar on the first process, in a terminal."""
    disable = True if getattr(rank_zero_only, "rank", 0) else None
    return tqdm(items, desc=text, leave=False, disable=disable, **options)


def warn_if_fewer(source: Path, count: int, official: int, noun: str) -> None:
    """Warn about a file or folder that has only a part of the official data."""
    if count < official:
        rank_zero_warn(
            f"{source} has {count:,} of the official {official:,} {noun}: the results are not comparable with those on "
            "all of them"
        )


class ArchiveDataModule(SequenceDataModule):
    """Data from an official archive, or the folder that it unpacks to, which are read once and then cached."""

    archive: str
    url: str
    md5: str
    archive_size: str
    contents: str

    def __init__(
        self, data_dir: str, download: bool, cache_dir: str | None, batch_size: int, num_workers: int, seed: int
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.data_dir = Path(data_dir)
        self.download = download
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self._loaded: dict[str, NDArray[Any]] | None = None

    def prepare_data(self) -> None:
        """Fetch the archive if necessary and allowed, and fill the cache."""
        if self.download and self._find() is None:
            fetch(self.url, self.data_dir / self.archive, md5=self.md5)
        self._load()

    def build(self, split: Split) -> AnyBatch:
        dataset = self.dataset(split)
        return dataset.__getitems__(range(len(dataset)))

    def _load(self) -> dict[str, NDArray[Any]]:
        if self._loaded is None:
            source = self._find()
            if source is None:
                raise FileNotFoundError(
                    f"{self.data_dir.absolute()} has neither {self.archive} nor the folder that it unpacks to "
                    f"({self.contents}): set data_dir to the folder with one of them, or download=True to fetch the "
                    f"archive ({self.archive_size}) from {self.url}"
                )
            self._loaded = self._read(source)
        return self._loaded

    def _find(self) -> Path | None:
        archive = self.data_dir / self.archive
        return self._find_folder() or (archive if archive.is_file() else None)

    def _find_folder(self) -> Path | None:
        raise NotImplementedError

    def _read(self, source: Path) -> dict[str, NDArray[Any]]:
        raise NotImplementedError


def _digest(settings: Mapping[str, Any], sources: Sequence[Path]) -> str:
    folder = os.path.commonpath([path.parent.resolve() for path in sources]) if sources else ""
    stats = [(path, path.stat()) for path in sources]
    files = [(os.path.relpath(path.resolve(), folder), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    text = json.dumps([_CACHE_FORMAT, settings, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
