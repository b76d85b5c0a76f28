"""How numbers, regimes and lists are written in a report."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import bitcode

MOST_ROWS = 20  # of a table

_LONGEST_CODE = 24


def number(value: float) -> str:
    """A number with four digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def signed(value: float) -> str:
    """A change with four digits and its sign."""
    return number(value) if value < 0 or math.isnan(value) else f"+{number(value)}"


def percent(share: float) -> str:
    """A share in per cent."""
    return "–" if math.isnan(share) else f"{share:.0%}"


def code_text(code: Tensor) -> str:
    """The bits of a regime, cut where there are many."""
    text = bitcode(code) or "linear"
    return text if len(text) <= _LONGEST_CODE else f"{text[: _LONGEST_CODE - 1]}… ({int(code.sum())} of {len(text)} on)"


def group_labels(groups: Tensor, names: list[str] | None, kind: str = "condition") -> list[str]:
    """Names of groups, or their numbers if they have no names."""
    return [names[index] if names else f"{kind} {index}" for index in groups.tolist()]


def channel_labels(names: list[str] | None, count: int, kind: str) -> list[str]:
    """Names of channels, or their kind and numbers if there is not a name for each."""
    return list(names) if names is not None and len(names) == count else [f"{kind} {index}" for index in range(count)]


def first_of(count: int) -> str:
    """A remark on rows that are left out."""
    return f": the first {MOST_ROWS} of {count}" if count > MOST_ROWS else ""
