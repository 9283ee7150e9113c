"""What all pages of one file share: their templates, and how a plot gets into them."""

from pathlib import Path

import jinja2

from ser.evaluation import theme
from ser.evaluation.figures import Plot
from ser.evaluation.format import format_count

TEMPLATES = Path(__file__).parent / "templates"


def page_environment(*folders: Path, undefined: type[jinja2.Undefined] = jinja2.StrictUndefined) -> jinja2.Environment:
    """The templates of a page, which escape everything.

    Args:
        folders: Folders of templates, besides that of `page.html` and `parts.html`.
        undefined: What a value that is not given does.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader((*folders, TEMPLATES)),
        autoescape=True,
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = format_count
    return environment


def drawn(name: str, plot: Plot) -> dict[str, str]:
    """A plot as `parts.html` takes it: its SVG, which also says what is to be seen, its caption and title.

    Args:
        name: Unique in the page.
    """
    told = f"{plot.title}. {plot.seen}" if plot.seen else plot.title
    return {"svg": theme.to_svg(plot.figure, name, told), "caption": plot.caption, "title": plot.title}
