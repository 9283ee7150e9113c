"""A damaged `results.json` is refused by file and key, or makes a page; it never ends in a traceback."""

import json
import random

import pytest
from fakes.fake_run import LABELS, context, predictions, training_log, write_run
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation.figures import read_run
from ser.evaluation.schema import check_results

WRONG = ["nonsense", 7, -1.5, None, [], {}, [None], {"a": None}, True]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fresh(tmp_path_factory.mktemp("run"))


def fresh(folder):
    return write_run(folder, predictions(), LABELS, context(), training_log())


def paths_in(content, path=()):
    """Paths of every value, of lists only the first two."""
    yield path
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield from paths_in(value, (*path, key))


def changed(content, path, value=...):
    """A copy with another value at a path; without one, without the key."""
    whole = json.loads(json.dumps(content))
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


def test_results_as_they_are_written_pass(run):
    read_run(run)
    check_results({"task": "classification", "labels": ["a"], **context()}, "results.json")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("test", "uar"), "0.6", "`test.uar` is '0.6', expected a number"),
        (("test", "uar"), float("nan"), "`test.uar` is 'nan', expected a number"),
        (("test", "intervals"), None, "`test.intervals` is 'None', expected an object"),
        (("test", "n"), ..., "`test.n` is not there"),
        (("labels",), ..., "`labels` is not there"),
        (("per_run",), [3], r"`per_run\[0\]` is '3', expected an object"),
    ],
)
def test_an_error_names_the_file_and_the_key(run, path, value, words):
    results = json.loads((run / "results.json").read_text())
    damaged = changed(results, path, value)
    with pytest.raises(ValueError, match=f"^here: {words}"):
        check_results(damaged, "here")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_never_ends_in_a_traceback(run, tmp_path, seed):
    fresh(tmp_path)
    text, draw = (run / "results.json").read_text(), random.Random(seed)
    results = json.loads(text)
    paths = list(paths_in(results))[1:]
    path = draw.choice(paths)
    damaged = [json.dumps(changed(results, path)), json.dumps(changed(results, path, draw.choice(WRONG)))]
    for content in [*damaged, text[: draw.randrange(len(text))]]:
        (tmp_path / "results.json").write_text(content)
        answer = CliRunner().invoke(app, ["report", str(tmp_path)])
        assert answer.exit_code == 0 or (answer.exit_code == 2 and str(tmp_path) in answer.stderr), answer.exception
