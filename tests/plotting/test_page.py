"""A report: what is put in comes out, escaped, in one file that needs no other; files are whole or not there."""

from __future__ import annotations

import os
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from lightning_alrnn.plotting.page import Page, save_figure, write_file
from lightning_alrnn.plotting.style import new_figure


class Reader(HTMLParser):
    """Collects text by tag, and attributes that name something outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._tag, []).append(data)


def read(page: Page) -> Reader:
    reader = Reader()
    reader.feed(page.html())
    return reader


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1))
def test_text_comes_out_as_it_went_in(text: str) -> None:
    page = Page("title")
    page.table((text,), [])
    assert "".join(read(page).texts["th"]) == text


def test_the_page_needs_nothing_else() -> None:
    page = Page("Report", "lead")
    page.section("One")
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1])
    page.figure(figure, "a line <b>")
    page.section("Two")
    page.code("alrnn fit")
    reader = read(page)
    links, images = reader.sources[:2], reader.sources[2:]
    assert links == ["#section-1", "#section-2"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert reader.texts["figcaption"] == ["a line <b>"]
    assert reader.texts["a"] == ["One", "Two"]


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    write_file(path, "first")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "second")
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_file_is_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    write_file(tmp_path / "report", b"bytes")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "report")}
    assert len(modes) == 1


def test_figures_as_png_and_svg(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        figure = new_figure(2, 1)
        figure.subplots().plot([0, 1], clip_on=True)
        save_figure(figure, tmp_path / folder / "line")
    assert imread(tmp_path / "first" / "line.png").shape == (160, 320, 4)
    drawings = [(tmp_path / folder / "line.svg").read_bytes() for folder in ("first", "second")]
    assert drawings[0] == drawings[1]
    assert b"<svg" in drawings[0]
