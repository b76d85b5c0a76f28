"""A report as one self-contained HTML file: text, tables and figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from lightning_alrnn.files import write_file
from lightning_alrnn.plotting.style import encode_png, render

_DPI = 160
_CSS = """
:root { color-scheme: light; }
body { margin: 2.5rem auto; padding: 0 1.25rem; max-width: 62rem; background: #fff; color: #1a1a1a;
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p { max-width: 46rem; margin: .6rem 0; }
p.lead { color: #555; margin-top: 0; }
p.answer { font-size: 1.1rem; border-left: 4px solid #0072B2; padding: .1rem 0 .1rem .9rem; }
nav { margin: 1rem 0; font-size: .95rem; }
nav a { margin-right: 1.1rem; color: #0072B2; text-decoration: none; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption, caption { color: #555; font-size: .88rem; text-align: left; max-width: 46rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .4rem; }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e6e6e6; }
th { font-weight: 600; white-space: nowrap; }
code, pre { font: .88em ui-monospace, Menlo, Consolas, monospace; }
pre { background: #f6f6f6; padding: .7rem .9rem; overflow-x: auto; }
"""


class Page:
    """An HTML page that is written from top to bottom; all text is escaped.

    Example:
        >>> page = Page("Report", "of nothing")
        >>> page.section("How well does it do?")
        >>> page.table(("metric", "value"), [("accuracy", "0.95")])
        >>> "<td>0.95</td>" in page.html()
        True
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if lead:
            self._parts.append(f'<p class="lead">{escape(lead)}</p>')
        self._contents = len(self._parts)
        self._sections: list[str] = []

    def section(self, title: str) -> None:
        """Begin a section, which the table of contents names."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="section-{len(self._sections)}">{escape(title)}</h2>')

    def subsection(self, title: str) -> None:
        """Begin a subsection."""
        self._parts.append(f"<h3>{escape(title)}</h3>")

    def text(self, paragraph: str, *, answer: bool = False) -> None:
        """Add a paragraph, set off where it is the answer to the question of the section."""
        attribute = ' class="answer"' if answer else ""
        self._parts.append(f"<p{attribute}>{escape(paragraph)}</p>")

    def link(self, text: str, target: str) -> None:
        """Add a link to another file, by its path from the folder of the page."""
        self._parts.append(f'<p><a href="{escape(target)}">{escape(text)}</a></p>')

    def code(self, text: str) -> None:
        """Add preformatted lines, such as a command or a traceback."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
        """Add a table from the heads of its columns and the cells of each row."""
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        above = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="scroll"><table>{above}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
        )

    def figure(self, figure: Figure, caption: str, path: Path | None = None) -> None:
        """Add a figure within the page, and also write it to files as :func:`save_figure` does if a path is given."""
        width = round(96 * figure.get_size_inches()[0])
        image = encode_png(render(figure, dpi=_DPI)) if path is None else save_figure(figure, path)
        data = b64encode(image).decode()
        self._parts.append(
            f'<figure><img width="{width}" alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def html(self) -> str:
        """The page."""
        links = "".join(
            f'<a href="#section-{number}">{escape(title)}</a>' for number, title in enumerate(self._sections, start=1)
        )
        parts = list(self._parts)
        if links:
            parts.insert(self._contents, f"<nav>{links}</nav>")
        body = "\n".join(parts)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
        )


def save_figure(figure: Figure, path: Path) -> bytes:
    """Write a figure as ``<path>.png``, whose bytes it returns, and ``<path>.svg``; equal figures give equal bytes."""
    image = encode_png(render(figure, dpi=_DPI))
    write_file(path.with_name(f"{path.name}.png"), image)
    figure.set_layout_engine("none")  # the drawing has the layout of the image; a second layout costs as much
    drawing = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    write_file(path.with_name(f"{path.name}.svg"), drawing.getvalue())
    return image
