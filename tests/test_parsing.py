"""Damaged and malicious files are refused in one line, in bounded time and memory."""

from __future__ import annotations

import io
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
import pytest
import yaml
from damage import damaged

from lightning_alrnn import parsing
from lightning_alrnn.parsing import check_archive, load_yaml, of_shape, read_json, read_yaml, shorten

LAUGHS = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "in line 1, column 8: the value &a contains itself"),
        ("a: &a\n  b: &b {c: *a}", "in line 2, column 13: the value &a contains itself"),
        ("a: &a {<<: *a}", "the value &a contains itself"),
        (f"a: &a [{','.join('x' * 10)}]\n{LAUGHS}", r"aliases such as \*e stand for more than 1,000,000 characters"),
        (f"a: &a {'x' * 10_000}\nb: [{','.join(['*a'] * 101)}]", "aliases such as .* 1,000,000 characters"),
        ("[" * 101 + "]" * 101, "in line 1, column 101: it is nested more than 100 levels deep"),
        ("[" * 100_000, "maximum nesting depth|nested more than 100 levels"),
        ("a: !!int many", r"not valid YAML \(ValueError: invalid literal for int"),
        ("a: !!bool many", "not valid YAML .*KeyError"),
        ("a: " + "9" * 5000, "not valid YAML .*ValueError"),
        ("a: \x00", "not valid YAML .*ReaderError"),
        ("? [a]\n: b", "in line 1, column 3: found unhashable key"),
        ("a: [\n", "in line 2, column 1"),
    ],
)
def test_malicious_yaml_is_refused_before_it_is_expanded(text: str, message: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=message) as refused:
        load_yaml(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: 1, c: [x, y]}\nd: *a\ne: {<<: *a, b: 2}",  # aliases are no crime
        "[" * 100 + "]" * 100,
        f"a: [{','.join('9' * 3000)}]",
        f"a: &a {'x' * 9_000}\nb: [{','.join(['*a'] * 101)}]",
        "",
        "null",
    ],
)
def test_other_yaml_is_read_as_by_yaml(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)


def said_of(function: Callable[[Any], Any], value: Any) -> str:
    """What a ``ValueError`` says, or "" without one."""
    try:
        function(value)
    except ValueError as error:
        return str(error)
    return ""


def test_yaml_of_any_damage_is_refused_in_a_line_or_read() -> None:
    rng = np.random.default_rng(0)
    content = b"model:\n  init_args: &a {hidden_size: 30, lr: 1.0e-3, init: near_identity}\nother: [*a, 2024-05-01]\n"
    said = [said_of(load_yaml, damaged(content, rng).decode(errors="replace")) for _ in range(500)]
    assert max(map(len, said)) < 300
    assert "\n" not in "".join(said)
    assert 100 < said.count("") < 400


class Point(NamedTuple):
    x: float
    kind: Literal["near", "far"] = "far"


class Line(TypedDict):
    points: tuple[Point, ...]
    width: int | None


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ({"x": 1}, Point, Point(1.0)),
        ([1.5, "near"], Point, Point(1.5, "near")),
        ({"points": [{"x": 2.0}], "width": 3, "else": 1}, Line, {"points": (Point(2.0),), "width": 3, "else": 1}),
        ({"points": [], "width": None}, Line, {"points": (), "width": None}),
        ("-inf", float, -math.inf),
        (True, str | int | float | bool, True),
        ([[1]], list[list[int]], [[1]]),
        (None, float | None, None),
        ("", str, ""),
        ({"x": 2}, Point | None, Point(2.0)),
    ],
)
def test_json_of_a_shape_becomes_what_it_stands_for(value: Any, shape: Any, expected: Any) -> None:
    made = of_shape(value, shape)
    assert made == expected
    assert type(made) is type(expected)
    assert math.isnan(of_shape({"x": None}, Point).x)


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        (True, int, "its content must be int, got True"),
        (1.0, int, "must be int, got 1.0"),
        (2**63, int, "must be int, got 9223372036854775808"),
        (10**400, float, "must be float, got 1000"),
        (math.nan, float, "must be float, got nan"),
        ({"y": 1}, Point, r"must be Point, got \{'y': 1\}"),
        ({"x": 1, "y": 1}, Point, "must be Point"),
        ([1.5], Point, "must be Point"),
        ({"x": 1, "kind": ["far"]}, Point, r"kind must be .*Literal.*, got \['far'\]"),
        ({"points": []}, Line, "must be Line"),
        ({"points": [{"x": "1"}], "width": 1}, Line, "x must be float, got '1'"),
        ([1, "2"], list[int], "item 1 of its content must be int, got '2'"),
        ("\ud800", str, "surrogates not allowed"),
        ("text", list[str], "must be list"),
        ([], int | None, r"must be int \| None, got \[\]"),
        ([1, "far", 2], Point, "must be Point"),
        ([1], dict[str, int], r"must be dict\[str, int\], got \[1\]|must be dict, got \[1\]"),
    ],
)
def test_json_of_another_shape_is_refused(value: Any, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_shape(value, shape)


def test_a_json_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    for content in (b"", b"{", b"\xff", b"[" * 100_000, b"[1]", b"9" * 5000):
        path.write_bytes(content)
        assert said_of(lambda path: read_json(path, dict[str, int]), path).startswith(f"{path} cannot be read: ")
    path.write_text('{"a": 1}')
    assert read_json(path, dict[str, int]) == {"a": 1}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "gone", Any)


def test_a_yaml_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content, message in ((b"a: [", "not valid YAML"), (b"\xff", "utf-8"), (b"3", "keys and values, got a int")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as refused:
            read_yaml(path)
        assert str(path) in str(refused.value)


def test_archives_with_a_changed_bit_in_a_file_are_refused(tmp_path: Path) -> None:
    """A bit elsewhere, such as that of a date, may also be; it raises nothing else."""
    content, path, said = io.BytesIO(), tmp_path / "archive", []
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"content")
    whole = bytearray(content.getvalue())
    begin = whole.index(b"content")
    for bit in range(0, 8 * len(whole), 3):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        said.append(said_of(check_archive, path))
    assert all(str(path) in message for message in said if message)
    assert all(said[8 * begin // 3 + 1 : 8 * (begin + 7) // 3])
    with pytest.raises(FileNotFoundError):
        check_archive(tmp_path / "gone")


def test_archives_that_unpack_to_a_hundred_times_their_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(1 << 20))
    check_archive(path)  # a small one may
    monkeypatch.setattr(parsing, "_SMALL", 1 << 10)
    most = 100 * path.stat().st_size
    message = f"^{path} unpacks to 1,048,576 bytes, but at most {most:,} are unpacked of a file of its size$"
    with pytest.raises(ValueError, match=message):
        check_archive(path)


def test_what_is_said_of_a_file_is_not_as_long_as_the_file() -> None:
    assert shorten("a\n b\t c") == "a b c"
    assert shorten("x" * 10_000, 5) == "xxxxx …"
