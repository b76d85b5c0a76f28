"""Every shipped configuration runs: fit, validate, test, predict."""

from __future__ import annotations

import pytest

from lightning_alrnn.cli import main, shipped_configs


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_config_runs(name: str) -> None:
    for command in ("fit", "validate", "test", "predict"):
        main([command, "--config", name, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"])


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_config_opens_with_its_description(name: str) -> None:
    first = shipped_configs()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20
