"""The style of every plot, and how it is saved: as PNG on white, or as SVG in the colours of the page around it."""

import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # only of what matplotlib wrote  # nosec B405

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ser.files import draft_of

# Blue and vermilion can be told apart with every common colour blindness, and in grey (Okabe and Ito, 2008).
INK, MUTED, RULE = "#1b1f24", "#5b6571", "#d8dce1"
ACCENT, SECOND, PAPER = "#1d5fa6", "#c2500f", "#ffffff"
# A cell filled with HEAT and the text on it have their own variables, since a dark page needs a deeper blue there.
HEAT, ON_HEAT = "#1d5fa5", "#fffffe"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    ACCENT: "accent",
    SECOND: "second",
    PAPER: "paper",
    HEAT: "heat",
    ON_HEAT: "on-heat",
}
DASHED = (0, (3, 2))
WIDTH_INCHES = 5.0
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "font.size": 10.5,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    # Labels are plain text: a label named "$x" must be neither a formula nor an error.
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    # Text stays text, for the font of the page, screen readers and the browser's search.
    "svg.fonttype": "none",
    "svg.hashsalt": "ser",
}
# Letters of the names of speakers that fit side by side under an axis.
MOST_LETTERS = 70


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws with the project's style and does not change matplotlib's global settings."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapper


def canvas(height_inches: float, **grid: Any) -> tuple[Figure, Any]:
    """A figure of the common width and its axes, as `Figure.subplots` gives them."""
    # Not by pyplot: its figures stay open, and its backend may need a display.
    figure = Figure(figsize=(WIDTH_INCHES, height_inches))
    return figure, figure.subplots(**grid)


def note(axes: Any, text: str, point: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A small text beside a point of the data, `offset` points away."""
    look = {"color": MUTED, "fontsize": 10, "va": "center", **look}
    axes.annotate(text, point, offset, textcoords="offset points", **look)


def percent_axes(*axes: Any) -> None:
    """Writes the ticks of a share as percentages."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def name_speakers(axes: Any, names: list[str]) -> None:
    """Writes the names below the marks 1, 2, ... if they fit side by side, else numbers."""
    if sum(len(name) + 1 for name in names) <= MOST_LETTERS:
        axes.set_xticks(range(1, len(names) + 1), names)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def short(text: str, limit: int = 12) -> str:
    """A name cut to what fits beside an axis."""
    text = str(text)
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def write_png(figure: Figure, path: Path) -> Path:
    """Writes the figure on white, 1,000 pixels wide; whole or not at all."""
    with draft_of(path) as draft, matplotlib.rc_context(_STYLE):
        figure.savefig(draft, format="png", dpi=200, facecolor=PAPER, metadata={"Software": None})
    return path


def write_vector(figure: Figure, path: Path) -> Path:
    """Writes the figure as SVG or PDF, by the ending of the path, without the time of day; whole or not at all."""
    kind = path.suffix[1:]
    nothing = {"pdf": ("Creator", "Producer", "CreationDate"), "svg": ("Creator", "Date", "Format", "Type")}[kind]
    # Fonts of type 42 can be searched and edited, and journals take them.
    with draft_of(path) as draft, matplotlib.rc_context({**_STYLE, "pdf.fonttype": 42}):
        figure.savefig(draft, format=kind, metadata=dict.fromkeys(nothing), bbox_inches="tight")
    return path


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as one `<svg>` element for a page.

    Colours become CSS variables of the page (`--ink`, `--accent`, ...) with the printed colour as fallback, fonts are
    the page's, and ids carry `name`, so that one page can hold many figures.

    Args:
        figure: A figure drawn by this package's plots.
        name: Unique in the page.
        description: Text for screen readers.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())  # matplotlib wrote it just now  # nosec B314
    styles = root.find(f"{{{_SVG}}}defs")
    if styles is not None:  # a style sheet for `*`, which would reach the whole page
        root.remove(styles)
    for element in root.iter():
        _adapt(element, name)
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib.update({"role": "img", "aria-label": description, "stroke-linejoin": "round"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # ElementTree escapes all texts  # nosec B704


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Gives one element the page's colours and fonts and a unique id."""
    for key, value in element.attrib.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key == f"{{{_XLINK}}}href":
            value = value.replace("#", f"#{name}-", 1)
        elif key == "clip-path":
            value = value.replace("url(#", f"url(#{name}-")
        elif key == "style":
            value = re.sub(r"font-family:[^;]*;?", "", value)
            value = re.sub(r"#[0-9a-f]{6}", lambda match: _variable(match[0]), value)
        element.attrib[key] = value


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]}, {colour})" if colour in _VARIABLES else colour
