"""A report as one HTML page that needs nothing else: pictures and scripts are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from dpsynth.report.document import Block, Document, Interactive, Picture, Table, Text, cell

PLOTLY = {"full_html": False, "config": {"displaylogo": False, "responsive": True}}
_TEMPLATE = Path(__file__).with_name("template.html")


def render_html(document: Document) -> str:
    """Returns the page. Every text is escaped; plotly.js is inlined once, where a figure needs it."""
    import jinja2

    blocks = [block for section in document.sections for block in section.blocks]
    plotly = ""
    if any(isinstance(block, Interactive) for block in blocks):
        from plotly.offline import get_plotlyjs

        plotly = get_plotlyjs()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["runs"] = _runs
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(document=document, plotly=plotly)


def _runs(blocks: Iterable[Block]) -> list[list[dict]]:
    """Groups neighbouring small pictures, which then stand side by side."""
    runs: list[list[dict]] = []
    for block in blocks:
        content = _content(block)
        small = isinstance(block, Picture) and is_small(block.png)
        if small and runs and runs[-1][-1].get("small"):
            runs[-1].append(content | {"small": True})
        else:
            runs.append([content | {"small": small}])
    return runs


def _content(block: Block) -> dict:
    if isinstance(block, Text):
        return {"kind": "text", "text": block.text}
    if isinstance(block, Table):
        header = [str(name) for name in block.frame.columns]
        rows = [[cell(value) for value in row] for row in block.frame.itertuples(index=False, name=None)]
        return {"kind": "table", "header": header, "rows": rows, "caption": table_caption(block)}
    if isinstance(block, Picture):
        data = base64.b64encode(block.png).decode()
        return {"kind": "picture", "data": data, "alt": block.alt, "caption": block.caption}
    return {"kind": "interactive", "html": block.figure.to_html(**PLOTLY, include_plotlyjs=False)}


def table_caption(table: Table) -> str:
    """Returns the caption, with what is left out."""
    if table.shown_of is None:
        return table.caption
    return f"{table.caption} ({len(table.frame)} of {table.shown_of} shown)".strip()


def is_small(png: bytes) -> bool:
    """Says whether two such pictures fit side by side."""
    return png_size(png)[0] <= 700


def png_size(png: bytes) -> tuple[int, int]:
    """Returns width and height in pixels, from the header of the file."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
