"""Pictures of TensorBoard, a verdict and figures, from real runs: ``make screenshots``.

Fits and sweeps in a temporary folder, starts TensorBoard on what came out, and drives it with Playwright in headless
Chromium (``pip install playwright``, and Debian's ``chromium``; no browser is downloaded). Writes docs/images/*.png at
1280×800.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1280, "height": 800}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
TABS = {"timeseries": "regime/", "custom_scalars": None, "images": "regime|units", "text": "model card"}


@contextmanager
def tensorboard(folder: Path, logdir: str = ".", seconds: float = 90.0) -> Iterator[str]:
    """A TensorBoard on a port of its own, started in a folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(int(seconds)):
            try:
                with urllib.request.urlopen(f"{address}/data/plugins_listing", timeout=5):
                    break
            except OSError:
                time.sleep(1)
        else:
            raise TimeoutError(f"TensorBoard did not answer within {seconds:.0f} s: {' '.join(command)}")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def browser() -> Iterator[Any]:
    """A page of headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        try:
            yield chromium.new_page(viewport=SIZE)
        finally:
            chromium.close()


def visit(page: Any, address: str, tab: str, tags: str | None = None) -> None:
    """Open a tab of TensorBoard, ask for some tags where it has a field for it, and wait until it has drawn."""
    page.goto(f"{address}/#{tab}")
    page.reload()
    page.wait_for_timeout(5000)
    if tags is not None:
        role = "combobox" if tab == "timeseries" else "textbox"
        page.get_by_role(role, name="Filter tags").first.fill(tags)
        page.keyboard.press("Escape")  # no list of proposals over the charts
        page.wait_for_timeout(3000)


def command(*arguments: str, folder: Path) -> None:
    """Run ``alrnn`` in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "lightning_alrnn", *arguments], cwd=folder, env=environment, check=True)


def main() -> None:
    """Make the pictures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command("fit", "--config", "digits", "--trainer.callbacks+=Spectrum", folder=folder)
        sizes = ("--nonlinear_units", "0,1,2,5,10,25,50", "--seeds", "5", "--output_dir", "sweep")
        command("sweep", "--config", "addition_quick", *sizes, folder=folder)
        with browser() as page:
            with tensorboard(folder, "runs") as address:
                for tab, tags in TABS.items():
                    visit(page, address, tab, tags)
                    page.screenshot(path=IMAGES / f"tensorboard_{tab}.png")
            with tensorboard(folder, "sweep/runs") as address:
                visit(page, address, "hparams")
                page.screenshot(path=IMAGES / "tensorboard_hparams.png")
        shutil.copy(folder / "sweep" / "verdict.png", IMAGES / "verdict.png")
        for figure in ("regime_occupancy", "units_duty_cycle"):
            last = sorted((folder / "runs").rglob(f"{figure}-epoch=*.png"))[-1]
            shutil.copy(last, IMAGES / f"{figure}.png")


if __name__ == "__main__":
    main()
