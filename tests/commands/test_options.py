"""The options of the commands: what they refuse, and that they are made without torch."""

from __future__ import annotations

from typing import get_args

import pytest

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.metrics.threshold import StopWhen


@pytest.mark.parametrize(("command", "network"), [("analyze", ["--ckpt_path", "last.ckpt"]), ("compare", ["swept"])])
def test_one_sequence_is_too_few(command: str, network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser_of(command).parse_args([*network, "--max_sequences", "1"])
    assert "argument --max_sequences: must be at least 2, got 1" in capsys.readouterr().err


def test_all_ways_to_stop_early_can_be_chosen() -> None:
    for word in get_args(StopWhen):
        options = parser_of("sweep").parse_args(["--seeds", "1", "--output_dir", "swept", "--stop_when", word])
        assert options.stop_when == word
    with pytest.raises(ValueError, match=r"--stop_when: invalid choice: 'never'.*see alrnn sweep --help"):
        parser_of("sweep").parse_args(["--seeds", "1", "--output_dir", "swept", "--stop_when", "never"])


def test_a_verdict_without_a_level_leaves_it_to_the_verdict() -> None:
    assert "alpha" not in vars(parser_of("verdict").parse_args(["swept"]))
    assert parser_of("verdict").parse_args(["swept", "--alpha", "0.01"]).alpha == 0.01
