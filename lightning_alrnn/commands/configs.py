"""``alrnn configs``: the configurations that come with the package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.configs import shipped_configs


def run_configs(arguments: Sequence[str]) -> None:
    """Run ``alrnn configs``."""
    parser_of("configs").parse_args(arguments)
    rows: list[tuple[str, ...]] = [("name", "M", "P", "input → target")]
    for name, path in shipped_configs().items():
        text = path.read_text(encoding="utf-8")
        options = yaml.safe_load(text)["model"]["init_args"]
        units = [_sizes(options, key) for key in ("hidden_size", "nonlinear_units")]
        rows.append((name, *units, text.splitlines()[1].lstrip("# ")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    last = "alrnn fit --config NAME runs a configuration; alrnn fit --config NAME --print_config shows it."
    sys.stdout.write("\n".join([*lines, "", last, ""]))


def _sizes(options: dict[str, Any], key: str) -> str:
    """The value of an option, followed by that of the decoder if there are two networks."""
    return " / ".join(str(value) for name, value in options.items() if name.endswith(key)) or "–"
