"""A report as a PDF, by a pure Python writer: no browser and no system library."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.report.document import Block, Document, Interactive, Picture, Section, Table, Text, cell
from dpsynth.report.html import is_small, png_size, table_caption

if TYPE_CHECKING:
    from fpdf import FPDF

_INK, _QUIET, _WARN, _ACCENT = (43, 47, 54), (95, 102, 112), (166, 60, 0), (0, 84, 128)
_DPI = 110  # of the pictures
_MOST_COLUMNS = 9
_LONGEST_CELL = 200
_PAD, _WIDEST = 3.4, 90.0  # millimetres around a cell's text, and of a cell at most


def render_pdf(document: Document) -> bytes:
    """Returns the file. Interactive figures appear as still pictures; wide tables lose columns and say so."""
    pdf = _new(document)
    pdf.add_page()
    pdf.set_font("text", "B", 18)
    pdf.multi_cell(0, 9, document.title, new_x="LMARGIN", new_y="NEXT")
    _write(pdf, document.claim, 11, _QUIET)
    if document.stamp:
        pdf.set_font("text", "B", 20)
        pdf.set_text_color(*_WARN)
        pdf.cell(0, 13, document.stamp, border=1, align="C", new_x="LMARGIN", new_y="NEXT")
    if document.internal:
        note = (
            "Parts marked INTERNAL compare with real rows without paying for it. They are for those who hold"
        )
        _write(pdf, f"{note} the data: do not pass this report on with a release.", 9.5, _WARN)
    for section in document.sections:
        _section(pdf, section)
    return bytes(pdf.output())


def _new(document: Document) -> FPDF:
    import matplotlib
    from fpdf import FPDF

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # free fonts that hold ε, δ and ±

    class Report(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("text", "", 8)
            self.set_text_color(*_QUIET)
            mark = "internal · " if document.internal else ""
            self.cell(0, 6, f"{mark}{document.claim} · page {self.page_no()} of {{nb}}", align="C")

    pdf = Report(format="A4", unit="mm")
    pdf.add_font("text", "", fonts / "DejaVuSans.ttf")
    pdf.add_font("text", "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.set_margins(16, 16)
    pdf.set_auto_page_break(True, margin=16)
    pdf.set_title(document.title)
    pdf.set_creator("dpsynth")
    return pdf


def _write(pdf: FPDF, text: str, size: float, colour: tuple[int, int, int] = _INK) -> None:
    pdf.set_font("text", "", size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, size * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1.5)


def _section(pdf: FPDF, section: Section) -> None:
    if pdf.get_y() > pdf.h - 60:
        pdf.add_page()
    pdf.ln(5)
    pdf.start_section(section.title)
    pdf.set_font("text", "B", 13)
    pdf.set_text_color(*_INK)
    pdf.cell(pdf.get_string_width(section.title) + 4, 8, section.title)
    pdf.set_font("text", "B", 8)
    pdf.set_text_color(*(_WARN if section.visibility == "internal" else _ACCENT))
    pdf.cell(0, 8.6, section.visibility.upper(), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)
    blocks = [b.still if isinstance(b, Interactive) else b for b in section.blocks]
    while blocks:
        block = blocks.pop(0)
        if isinstance(block, Text):
            _write(pdf, block.text, 9.5)
        elif isinstance(block, Table):
            _table(pdf, block)
        elif blocks and _is_small(block) and _is_small(blocks[0]):
            _pictures(pdf, [block, blocks.pop(0)], pdf.epw / 2 - 2)
        else:
            _pictures(pdf, [block], pdf.epw)


def _is_small(block: Block) -> bool:
    return isinstance(block, Picture) and is_small(block.png)


def _pictures(pdf: FPDF, pictures: list[Picture], widest: float) -> None:
    """Places pictures side by side, each at most `widest` millimetres wide, on one page."""
    most, sizes = pdf.eph - 12, []
    for picture in pictures:
        pixels, lines = png_size(picture.png)
        width = min(widest, pixels / _DPI * 25.4)
        sizes.append((min(width, most * pixels / lines), min(width * lines / pixels, most)))
    tallest = max(height for _, height in sizes)
    if pdf.get_y() + tallest > pdf.h - pdf.b_margin:
        pdf.add_page()
    top = pdf.get_y()
    for number, (picture, (width, height)) in enumerate(zip(pictures, sizes)):
        x = pdf.l_margin + number * (widest + 4)
        pdf.image(io.BytesIO(picture.png), x=x, y=top, w=width, h=height, alt_text=picture.alt)
    pdf.set_xy(pdf.l_margin, top + tallest + 1)
    for caption in [p.caption for p in pictures if p.caption]:
        _write(pdf, caption, 8.5, _QUIET)
    pdf.ln(2)


def _table(pdf: FPDF, table: Table) -> None:
    frame = table.frame.iloc[:, :_MOST_COLUMNS]
    caption = table_caption(table)
    if frame.shape[1] < table.frame.shape[1]:
        caption = f"{caption} (first {_MOST_COLUMNS} of {table.frame.shape[1]} columns)".strip()
    if caption:
        _write(pdf, caption, 8.5, _QUIET)
    if not frame.shape[1]:
        return
    rows = [[_cut(cell(value)) for value in row] for row in frame.itertuples(index=False, name=None)]
    header = [_cut(str(name)) for name in frame.columns]
    pdf.set_font("text", "", 7.5)
    pdf.set_text_color(*_INK)
    widths = _widths(pdf, [header, *rows])
    with pdf.table(
        col_widths=tuple(widths),
        borders_layout="HORIZONTAL_LINES",
        line_height=4.2,
        text_align="LEFT",
        width=min(pdf.epw, sum(widths)),
        align="LEFT",
        padding=0.6,
    ) as drawn:
        for row in [header, *rows]:
            drawn.row(row)
    pdf.ln(2)


def _widths(pdf: FPDF, rows: Sequence[Sequence[str]]) -> list[float]:
    """Millimetres per column: each holds its longest word, and what is left goes to those with long lines."""
    pdf.set_font("text", "B", 7.5)  # the header's, which is wider
    words, lines = [], []
    for cells in zip(*rows):
        words.append(
            max(pdf.get_string_width(word) for text in cells for word in text.split() or [""]) + _PAD
        )
        lines.append(min(max(map(pdf.get_string_width, cells)) + _PAD, _WIDEST))
    pdf.set_font("text", "", 7.5)
    lines = [max(pair) for pair in zip(words, lines)]
    if sum(lines) <= pdf.epw:
        return lines
    if sum(words) >= pdf.epw:  # no room even for the words: shrink all alike
        return [word * pdf.epw / sum(words) for word in words]
    share = (pdf.epw - sum(words)) / (sum(lines) - sum(words))
    return [word + share * (line - word) for word, line in zip(words, lines)]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
