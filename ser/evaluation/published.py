"""Figures that others have published under the protocol of a run, each with its source and what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser.evaluation.format import TITLES, format_number

_FILE = Path(__file__).parent / "published.yaml"
KEYS = {"corpus", "protocol", "label_source", "score", "value", "model", "source", "wrong"}


def published_figures(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows with `model`, `score`, `source` and `wrong` of the same corpus, labels and protocol; empty if there is none.

    Args:
        results: The content of `results.json`.
    """
    own = {
        "corpus": results.get("corpus", {}).get("name"),
        "protocol": results.get("protocol", {}).get("name"),
        "label_source": results.get("label_source"),
    }
    return [
        {
            "model": row["model"],
            "score": f"{TITLES[row['score']]} {format_number(row['value'])}",
            "source": row["source"],
            "wrong": row["wrong"],
        }
        for row in read_published()
        if all(row[key] == value for key, value in own.items())
    ]


def read_published() -> list[dict[str, Any]]:
    """All published figures that are known here."""
    import yaml

    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))
