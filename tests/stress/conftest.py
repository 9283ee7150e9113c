"""Figures of the stress tests, printed as a table for `benchmarks/RESULTS.md` when they are over."""

from collections.abc import Callable

import pytest

_ROWS: list[str] = []


@pytest.fixture
def figure() -> Callable[..., None]:
    """Notes a row of the table: what was tried, how often, what survived or was named, seconds, and peak memory."""

    def note(what: str, tried: int, survived: int, named: int, seconds: float, peak_mb: float | None = None) -> None:
        memory = "" if peak_mb is None else f"{peak_mb:.0f} MB"
        _ROWS.append(f"| {what} | {tried} | {survived} | {named} | {seconds:.0f} | {memory} |")

    return note


def pytest_terminal_summary(terminalreporter):
    if _ROWS:
        head = ("| what | tried | survived | named | seconds | memory |", "|---|---|---|---|---|---|")
        terminalreporter.write_line("\n".join(("", *head, *_ROWS)))
