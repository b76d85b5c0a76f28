"""TensorBoard on a real short run, driven by Playwright in headless Chromium: each tab shows what it should.

Part of ``pytest -m browser``, not of a plain ``pytest``. Skipped where there is no ``chromium`` or no ``playwright``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script

from lightning_alrnn.commands.entry import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    pytest.importorskip("playwright")
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine")
    return load_script(Path(__file__).parents[2] / "docs" / "screenshots.py")


@pytest.fixture(scope="module")
def page(screenshots: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    folder = tmp_path_factory.mktemp("runs")
    quick = ["--trainer.max_epochs=3", "--data.init_args.train_size=256", "--trainer.enable_progress_bar=false"]
    where = [f"--trainer.logger.init_args.save_dir={folder}", f"--trainer.default_root_dir={folder}"]
    main(["fit", "--config", "addition_quick", *quick, *where])
    with screenshots.tensorboard(folder) as address, screenshots.browser() as opened:
        yield opened, address


@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("timeseries", ["regime", "units", "fixed_points"]),
        ("custom_scalars", ["task", "regimes", "units", "fixed points"]),
        ("images", ["fixed_points/eigenvalues", "fixed_points/state_space"]),
        ("text", ["model card", "M = 50, P = 5, K = 2", "regularisation"]),
        ("hparams", ["nonlinear_units", "data/sequence_length"]),
    ],
)
def test_tab(screenshots: ModuleType, page: tuple[Any, str], tab: str, texts: list[str], tmp_path: Path) -> None:
    opened, address = page
    screenshots.visit(opened, address, tab)
    for text in texts:
        assert opened.get_by_text(text).first.is_visible(), text
    if tab == "custom_scalars":
        # no chart without a curve
        assert opened.get_by_text("Matches (0)").count() == 0
    opened.screenshot(path=tmp_path / f"{tab}.png")
    assert (tmp_path / f"{tab}.png").stat().st_size > 20_000
