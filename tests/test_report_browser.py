"""report.html in a real browser.

Not part of a plain ``pytest``: a browser takes seconds, and few machines that run the suite have one. ``pytest -m
browser`` runs it, and skips it where there is no ``chromium``. ``-m browser`` takes the place of the ``-m "not
browser"`` that pyproject.toml gives, and so does any other ``-m``.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.image import imread
from studies import written

pytestmark = pytest.mark.browser

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
OFFLINE = ("--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND")
MEASURE = """<script>addEventListener("load", () => {
  const images = [...document.images].map(image => [image.naturalWidth, image.getBoundingClientRect().width]);
  document.title = JSON.stringify({images, wide: document.documentElement.scrollWidth, view: innerWidth});
});</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine")
    return path


def test_every_figure_shows_without_network(tmp_path: Path, chromium: str) -> None:
    written(tmp_path, group=[0, 1] * 10)
    page = tmp_path / "measured.html"
    page.write_text((tmp_path / "report.html").read_text(encoding="utf-8") + MEASURE, encoding="utf-8")
    flags = (*FLAGS, *OFFLINE, "--window-size=1280,2000", f"--user-data-dir={tmp_path / 'profile'}")

    def run(*arguments: str) -> str:
        command = [chromium, *flags, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    dump = run("--dump-dom", page.as_uri())
    title = re.search(r"<title>(.*?)</title>", dump, flags=re.DOTALL)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert len(seen["images"]) == len(list((tmp_path / "figures").glob("*.png"))) > 10
    assert all(natural > 0 and shown > 0 for natural, shown in seen["images"])
    assert seen["wide"] <= seen["view"]  # nothing is cut off at the side

    picture = tmp_path / "page.png"
    run(f"--screenshot={picture}", (tmp_path / "report.html").as_uri())
    assert imread(picture)[..., :3].std() > 0.05
