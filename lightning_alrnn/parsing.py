"""Files that were written elsewhere, or long ago: they are checked before anything uses what they hold."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

_MOST_SAID = 150
_MOST_REPEATED = 1_000_000  # characters that the aliases of a YAML text may stand for
_DEEPEST = 100  # levels of a YAML text
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C library, if it is there, is ten times faster


def check_archive(path: Path) -> None:
    """Raise ``ValueError`` unless each file of a zip archive has its checksum, in bounded memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            damage = archive.testzip()
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive can raise anything, such as a wish for a password
        raise ValueError(f"{path} is damaged ({reason_of(error)})") from error
    if damage is not None:
        raise ValueError(f"{path} is damaged ({damage} has another checksum)")


def reason_of(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says, in one line."""
    return f"{type(error).__name__}: {shorten(str(error), _MOST_SAID)}" if str(error) else type(error).__name__


def shorten(text: str, most: int = 500) -> str:
    """The beginning of a text in one line; what a damaged file leads to may be as long as the file."""
    line = " ".join(text[: 2 * most].split())
    return line if len(line) <= most else f"{line[:most]} …"


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
