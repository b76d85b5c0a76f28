"""Results as short tables: how the NamedTuples of this package print, and look in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, NamedTuple

import torch
from torch import Tensor

_MOST_ROWS = 10
_MOST_VALUES = 6

# have rows of their own in results whose other fields have a row for each regime
_OF_OTHERS = ("cut", "duration", "edge_counts", "groups", "probability", "regime", "transition_counts")


class Table(NamedTuple):
    """A table.

    Attributes:
        title: Name of the result, with its numbers and texts.
        columns: Cells of each column by its header.
        note: Rows and fields that are not shown; empty if there are none.
    """

    title: str
    columns: dict[str, list[str]]
    note: str

    def text(self) -> str:
        """Return lines of text with aligned columns."""
        columns = [[name, *cells] for name, cells in self.columns.items()]
        widths = [max(map(len, column)) for column in columns]
        rows = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True))
        return "\n".join([self.title, *(f"  {row}" for row in rows), *([self.note] if self.note else [])])

    def html(self) -> str:
        """Return a table in HTML."""
        rows = [self.columns, *zip(*self.columns.values(), strict=True)]
        head, *body = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{head.replace('td>', 'th>')}</tr></thead><tbody>"
            f"{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>{escape(self.note)}"
        )


def table_of(result: Any) -> Table:
    """Make the table of a NamedTuple: a row for each regime if it has ``code`` or ``codes``, or one for each field."""
    fields: dict[str, Any] = result._asdict()
    codes = fields.get("code", fields.get("codes"))
    if not (isinstance(codes, Tensor) and codes.ndim > 1):
        return Table(type(result).__name__, {"field": list(fields), "value": [*map(_summary, fields.values())]}, "")
    columns, others = {}, []
    for name, value in fields.items():
        cells = None if name in _OF_OTHERS else _cells(name, value, len(codes))
        if cells is not None:
            columns["timescales (slowest)" if name == "timescales" else name] = cells
        elif not _is_scalar(value):
            others.append(f"{name} {_summary(value)}")
    notes = [f"… {len(codes) - _MOST_ROWS} more"] if len(codes) > _MOST_ROWS else []
    notes += [f"and {', '.join(others)}"] if others else []
    return Table(_named(result, {"n": len(codes), **_scalars(fields)}), columns, "; ".join(notes))


def print_as_tables(classes: Iterable[Any]) -> None:
    """Let the results that are NamedTuples print as tables; those of numbers and texts alone stay in one line."""
    for cls in classes:
        if isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields"):
            cls.__repr__ = _representation(cls.__repr__)  # type: ignore[method-assign]
            cls._repr_html_ = lambda self: table_of(self).html()  # type: ignore[attr-defined]


def _representation(one_line: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda self: one_line(self) if all(map(_is_scalar, self)) else table_of(self).text()


def _cells(name: str, value: Any, count: int) -> list[str] | None:
    """Cells of a field with a value for each row, or ``None``."""
    if isinstance(value, list) and len(value) == count:
        return [_summary(item) for item in value[:_MOST_ROWS]]
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != count:
        return None
    shown = value[:_MOST_ROWS]
    if shown.dtype == torch.bool and shown.ndim > 1:
        return [_bits(row) for row in shown]
    if name == "timescales" and shown.ndim == 2 and shown.shape[1]:
        return [_number(row.abs().max().item()) for row in shown]
    return [_number(item) for item in shown.tolist()] if shown.ndim == 1 else None


def _bits(code: Tensor) -> str:
    if code.ndim > 1:  # of a cycle
        return " ".join(map(_bits, code))
    return "".join("01"[bit] for bit in code.int().tolist())


def _summary(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return _number(value.item())
        if value.ndim == 1 and len(value) <= _MOST_VALUES:
            return f"[{', '.join(map(_number, value.tolist()))}]"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if hasattr(value, "_fields"):
        codes = value._asdict().get("code", value._asdict().get("codes"))
        rows = {"n": len(codes)} if isinstance(codes, Tensor) and codes.ndim > 1 else {}
        return _named(value, rows | _scalars(value._asdict()))
    if isinstance(value, Mapping):
        return f"{{{_joined(f'{key}: {_summary(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{_joined(map(_summary, value))}]"
    return _number(value) if _is_scalar(value) else type(value).__name__


def _joined(items: Iterable[str]) -> str:
    texts = list(items)
    more = [f"… {len(texts) - _MOST_VALUES} more"] if len(texts) > _MOST_VALUES else []
    return ", ".join([*texts[:_MOST_VALUES], *more])


def _named(value: Any, items: Mapping[str, Any]) -> str:
    return f"{type(value).__name__}({', '.join(f'{name}={_number(item)}' for name, item in items.items())})"


def _scalars(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if _is_scalar(value) and value is not None}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, complex, str))


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (float, complex)) else str(value)
