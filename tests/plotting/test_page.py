"""A report: what is put in comes out, escaped, in one file that needs no other."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from lightning_alrnn.plotting.page import Page, save_figure
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


def test_figures_as_png_and_svg(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        figure = new_figure(2, 1)
        figure.subplots().plot([0, 1], clip_on=True)
        save_figure(figure, tmp_path / folder / "line")
    assert imread(tmp_path / "first" / "line.png").shape == (160, 320, 4)
    drawings = [(tmp_path / folder / "line.svg").read_bytes() for folder in ("first", "second")]
    assert drawings[0] == drawings[1]
    assert b"<svg" in drawings[0]
