"""Damaged and malicious files are refused in one line, in bounded time and memory."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from damage import damaged

from lightning_alrnn.parsing import check_archive, load_yaml, read_yaml, shorten

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
    for bit in range(8 * len(whole)):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        said.append(said_of(check_archive, path))
    assert all(str(path) in message for message in said if message)
    assert all(said[8 * begin : 8 * (begin + 7)])
    with pytest.raises(FileNotFoundError):
        check_archive(tmp_path / "gone")


def test_what_is_said_of_a_file_is_not_as_long_as_the_file() -> None:
    assert shorten("a\n b\t c") == "a b c"
    assert shorten("x" * 10_000, 5) == "xxxxx …"
