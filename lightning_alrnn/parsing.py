"""Files that were written elsewhere, or long ago: they are checked before anything uses what they hold."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

_MOST_TIMES = 100  # as large as its file may an archive unpack to …
_SMALL = 1 << 30  # … or to so many bytes
_MOST_SAID = 150
_MOST_SHOWN = 60
_LARGEST = 2**63  # whole numbers of NumPy and torch
_MOST_REPEATED = 1_000_000  # characters that the aliases of a YAML text may stand for
_DEEPEST = 100  # levels of a YAML text
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C library, if it is there, is ten times faster


def most_unpacked(path: Path) -> int:
    """Largest number of bytes that an archive may unpack to: beyond it, a small file would fill the memory."""
    return max(_SMALL, _MOST_TIMES * path.stat().st_size)


def check_archive(path: Path) -> None:
    """Raise ``ValueError`` if a zip archive is a bomb or a file in it has another checksum; in bounded memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked, most = sum(member.file_size for member in archive.infolist()), most_unpacked(path)
            damage = archive.testzip() if unpacked <= most else None
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive can raise anything, such as a wish for a password
        raise ValueError(f"{path} is damaged ({reason_of(error)})") from error
    if unpacked > most:
        raise ValueError(
            f"{path} unpacks to {unpacked:,} bytes, but at most {most:,} are unpacked of a file of its size"
        )
    if damage is not None:
        raise ValueError(f"{path} is damaged ({damage} has another checksum)")


def reason_of(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says, in one line."""
    return f"{type(error).__name__}: {shorten(str(error), _MOST_SAID)}" if str(error) else type(error).__name__


def shorten(text: str, most: int = 500) -> str:
    """The beginning of a text in one line; what a damaged file leads to may be as long as the file."""
    line = " ".join(text[: 2 * most].split())
    return line if len(line) <= most else f"{line[:most]} …"


def read_json(path: Path, shape: Any) -> Any:
    """Read a JSON file of a shape, see :func:`of_shape`; raise ``ValueError`` with its path if it has another one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: it is not valid JSON ({reason_of(error)})") from error
    try:
        return of_shape(content, shape)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def of_shape(value: Any, shape: Any, name: str = "its content") -> Any:
    """Return what JSON stands for if it has the shape of a type hint, with tuples and named tuples; else raise.

    ``null`` stands for NaN where a float is expected.
    """
    return _reader_of(shape)(value, name)


_Reader: TypeAlias = Callable[[Any, str], Any]  # of a value and its name


@lru_cache  # a sweep may have thousands of records of the same shape
def _reader_of(shape: Any) -> _Reader:
    """The function that reads a value of a shape; it raises ``ValueError`` at a value of another one."""
    kind, parts = get_origin(shape), get_args(shape)
    expected = getattr(shape, "__name__", shape)

    def wrong(value: Any, name: str) -> ValueError:
        return ValueError(f"{name} must be {expected}, got {shorten(repr(value), _MOST_SHOWN)}")

    def read_literal(value: Any, name: str) -> Any:
        if isinstance(value, str) and value in parts:
            return value
        raise wrong(value, name)

    def read_union(value: Any, name: str) -> Any:
        if value is None and NoneType in parts:
            return None
        for reader in readers:
            with contextlib.suppress(ValueError):
                return reader(value, name)
        raise wrong(value, name)

    def read_float(value: Any, name: str) -> float:
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)
        if value is None or value in ("inf", "-inf"):
            return math.nan if value is None else float(value)
        raise wrong(value, name)

    def read_int(value: Any, name: str) -> int:
        if type(value) is int and abs(value) < _LARGEST:
            return value
        raise wrong(value, name)

    def read_plain(value: Any, name: str) -> Any:
        if type(value) is not shape:
            raise wrong(value, name)
        str(value).encode()  # half a character raises a ValueError
        return value

    def read_list(value: Any, name: str) -> Any:
        if not isinstance(value, list):
            raise wrong(value, name)
        items = [readers[0](item, f"item {place} of {name}") for place, item in enumerate(value)]
        return tuple(items) if kind is tuple else items

    def read_dict(value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            raise wrong(value, name)
        return {key: readers[1](item, key) for key, item in value.items()}

    def read_typed_dict(value: Any, name: str) -> Any:
        if not (isinstance(value, dict) and shape.__required_keys__ <= value.keys()):
            raise wrong(value, name)
        return {key: fields[key](item, key) if key in fields else item for key, item in value.items()}

    def read_named_tuple(value: Any, name: str) -> Any:
        # JSON has its fields by name, or in their order
        if isinstance(value, list) and len(value) == len(shape._fields):
            value = dict(zip(shape._fields, value, strict=True))
        if not (isinstance(value, dict) and needed <= value.keys() <= fields.keys()):
            raise wrong(value, name)
        return shape(**{key: fields[key](item, key) for key, item in value.items()})

    if shape is Any:
        return lambda value, name: value
    if kind is Literal:
        return read_literal
    readers = [_reader_of(part) for part in parts if part not in (..., NoneType)]
    if kind in (Union, UnionType):
        return read_union
    if kind in (list, tuple, Sequence):
        return read_list
    if kind in (dict, Mapping):
        return read_dict
    if is_typeddict(shape) or hasattr(shape, "_fields"):
        fields = {name: _reader_of(hint) for name, hint in get_type_hints(shape).items()}
        needed = {*getattr(shape, "_fields", ())} - {*getattr(shape, "_field_defaults", ())}
        return read_typed_dict if is_typeddict(shape) else read_named_tuple
    return {float: read_float, int: read_int}.get(shape, read_plain)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with keys and values; raise ``ValueError`` if it is none."""
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must have keys and values, got a {type(content).__name__}")
    return content


def load_yaml(text: str, load: Callable[[str], Any] = lambda text: yaml.load(text, _LOADER)) -> Any:
    """Return what ``load`` makes of a YAML text; raise ``ValueError`` in one line if it is damaged or malicious."""
    try:
        _check_aliases(text)
        return load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"it is not valid YAML{place}: {error.problem or error.context}") from error
    except Exception as error:  # of a value such as `!!int many`
        raise ValueError(f"it is not valid YAML ({reason_of(error)})") from error


def _check_aliases(text: str) -> None:
    """Raise ``YAMLError`` where a text of YAML stands for an endless or a much longer one, or is nested too deep."""
    # a value that contains itself, or ten times ten times ten values, is loaded at once but never written to its end
    sizes: dict[str | None, int] = {}  # characters of the value of each anchor
    around: list[tuple[str | None, int]] = []  # anchors of the lists and mappings around, and where they begin
    total = repeated = 0
    for event in yaml.parse(text, _LOADER):
        mark: Any = event.start_mark
        anchor: Any = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == other for other, _ in around):
                raise yaml.MarkedYAMLError(None, None, f"the value &{anchor} contains itself", mark)
            total += sizes.get(anchor, 0)
            repeated += sizes.get(anchor, 0)
            if repeated > _MOST_REPEATED:
                problem = f"aliases such as *{anchor} stand for more than {_MOST_REPEATED:,} characters"
                raise yaml.MarkedYAMLError(None, None, problem, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, begin = around.pop()
            sizes[anchor] = total - begin
        elif isinstance(event, yaml.NodeEvent):
            begin, total = total, total + 1
            if isinstance(event, yaml.CollectionStartEvent):
                around.append((anchor, begin))
                if len(around) > _DEEPEST:
                    raise yaml.MarkedYAMLError(None, None, f"it is nested more than {_DEEPEST} levels deep", mark)
            elif isinstance(event, yaml.ScalarEvent):
                total += len(event.value)
                sizes[anchor] = total - begin
