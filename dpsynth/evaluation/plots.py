"""Colours and axes shared by every picture: few lines, colours that the colour-blind can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REAL = "#b8bcc2"
REAL_EDGE = "#5f6670"
INK = "#2b2f36"
FAINT = "#e3e5e8"
# Okabe and Ito (2008), without black and yellow; dashes and markers tell lines apart without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "<", ">", "p")


def colour(position: int) -> str:
    """Colour of the n-th series; repeats after six, when the marker changes too."""
    return COLOURS[position % len(COLOURS)]


def new_axes(width: float = 6.0, height: float = 3.4, *, rows: int = 1, columns: int = 1):
    """Returns a figure that no global state knows of, and its axes (an array when there are several)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns)
    for each in getattr(axes, "flat", [axes]):
        clean(each)
    return figure, axes


def clean(axes: Axes) -> None:
    """Leaves two thin spines and small grey ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(REAL_EDGE)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=REAL_EDGE, labelcolor=INK, labelsize=8.5, width=0.8, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    axes.set_axisbelow(True)


def title(axes: Axes, text: str, note: str = "") -> None:
    """Sets a left-aligned title, with a lighter note below it."""
    axes.set_title(text, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=18 if note else 8)
    if note:
        axes.annotate(
            note,
            (0, 1),
            xytext=(0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8.5,
            color=REAL_EDGE,
            va="bottom",
        )


def shortened(text: str, length: int = 24) -> str:
    """Cuts a label that would not fit."""
    text = str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def literal(figure: Figure) -> None:
    """Has every text of a finished figure drawn as it stands: in names, `$5^$` is no formula.

    Numbers on axes keep theirs, as powers of ten need it.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    numbers = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        labels = [axis.offsetText, *(label for tick in ticks for label in (tick.label1, tick.label2))]
        if isinstance(axis.get_major_formatter(), LogFormatter | ScalarFormatter):
            numbers.update(map(id, labels))
    for text in figure.findobj(Text):
        if id(text) not in numbers:
            text.set_parse_math(False)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Returns the picture's bytes, with room for labels that the layout did not foresee."""
    import io

    literal(figure)
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None}
    )
    return buffer.getvalue()
