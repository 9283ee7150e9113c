"""Damage drawn by hypothesis: to values of JSON and YAML, to tables and to bytes; and what must come of it."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress.mutations import mutated

FULL = pytest.param(2000, marks=pytest.mark.stress)
EACH_SIZE = pytest.mark.parametrize("count", [25, FULL])
EACH_SIZE_HEAVY = pytest.mark.parametrize("count", [pytest.param(25, marks=pytest.mark.heavy), FULL])
# What hand-edited and damaged files hold in place of a value.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "\0", "a\nb", "nan", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def damaged_content(content: Any) -> st.SearchStrategy[Any]:
    """Content of JSON in which one value, anywhere, is replaced, removed or doubled."""

    @st.composite
    def draw_damage(draw) -> Any:
        copy, inside = json.loads(json.dumps(content)), None
        node, key = {"": copy}, ""
        while isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            inside = node
        how = draw(st.sampled_from(["replace", "replace", "remove", "double"])) if inside is not None else "replace"
        if how == "remove":
            del node[key]
        elif how == "double" and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = draw(VALUES)
        return copy if inside is not None else node[""]

    return draw_damage()


def damaged_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes of a file with random damage, or other bytes altogether."""
    damage = st.integers(0, 2**32).map(lambda seed: mutated(data, random.Random(seed), [data]))
    return st.one_of(damage, damage, st.binary(max_size=200))


def outcome(read: Callable[[], Any], *names: str) -> str:
    """ "taken" or "named"; an error that is no single line, or has none of the names in it, fails the test."""
    found: Exception | None = None
    try:
        read()
    except (ValueError, OSError) as error:
        found = error
    if found is None:
        return "taken"
    assert type(found) in (ValueError, FileNotFoundError, IsADirectoryError), repr(found)
    assert "\n" not in str(found)
    assert any(name in str(found) for name in names), str(found)
    return "named"


def check_each(what: str, damage: st.SearchStrategy[Any], check: Callable[[Any], str], count: int, figure) -> None:
    """Draws `count` kinds of damage, checks each, and notes the figures."""
    found: Counter[str] = Counter()
    start = time.perf_counter()

    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(damage)
    def check_one(drawn: Any) -> None:
        found[check(drawn)] += 1

    check_one()
    figure(what, found.total(), found["taken"], found["named"], time.perf_counter() - start)
    assert found["named"]


def json_bytes(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", "surrogatepass")
