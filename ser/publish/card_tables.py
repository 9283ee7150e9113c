"""Tables of the model card that the report has too: baselines, and corpora of which there are several."""

from collections.abc import Mapping
from typing import Any

from ser.evaluation import format as words
from ser.evaluation import tables
from ser.publish.markdown import paragraphs, safe, table

Results = Mapping[str, Any]


def baselines(results: Results) -> str:
    """The table of baselines, and of the model beside them; empty if there are none."""
    rows = [
        [
            safe(row["name"]),
            words.format_interval(row["uar"], row["interval"]),
            words.format_difference(gain.get("uar"), gain.get("interval")) if (gain := row.get("difference")) else "",
            words.format_p(gain.get("p")) if gain else "",
        ]
        for row in tables.baselines(results)
    ]
    return table(["on the same clips", "UAR", "this model minus baseline", "p"], rows) if rows else ""


def corpora(results: Results) -> str:
    """The table of corpora; empty if only one was tested."""
    found = tables.corpora(results)
    if not found:
        return ""
    rows = [
        [safe(row["name"]), *row["scores"], row["clips"], row["speakers"], safe(row["lacks"]) or "none"]
        for row in found["rows"]
    ]
    return paragraphs(
        "Each corpus alone; UAR is over the classes of that corpus.",
        table(["corpus", *found["scores"], "clips", "speakers", "absent classes"], rows),
    )
