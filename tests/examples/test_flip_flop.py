"""The example keeps its promise: three bits, 27 fixed points."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from scripts import load_script

SOURCE = Path(__file__).parents[2] / "examples" / "flip_flop.py"


@pytest.mark.filterwarnings("ignore")  # the example silences Lightning's advice itself, as a user would
def test_a_three_bit_memory_has_its_27_fixed_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = load_script(SOURCE)
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    try:
        found = example.main(tmp_path)
    finally:
        logger.setLevel(level)  # the example makes it quiet
    assert len(found.z) == 27
    assert found.stability.count("stable") == 8
    assert found.index_sum == 1
    assert found.complete
    stable = [index for index, kind in enumerate(found.stability) if kind == "stable"]
    signs = {tuple((found.readout[index] > 0).tolist()) for index in stable}
    assert len(signs) == 8  # each memory has its point
    assert float((found.readout[stable].abs() - 1).abs().max()) < 0.2
    printed = capsys.readouterr().out
    assert "fixed points      27, complete; index sum +1" in printed
    assert (tmp_path / "state_space.png").stat().st_size > 10_000
