"""`ser runs` lists the runs below a folder, the best on test first, with the settings that differ."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from fakes.fake_run import LABELS, context, predictions, write_run
from typer.testing import CliRunner

from ser.cli import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, a worse one with another learning rate, a fold of the first, and a damaged run."""
    whole = tmp_path_factory.mktemp("runs")
    good = write_run(whole / "good", predictions(), LABELS, context())
    results = json.loads((good / "results.json").read_text())
    results["config"]["learning_rate"] = 0.001
    results["test"]["uar"] = 0.2
    for name, content in (("bad", results), ("good/seed-1/fold-0", results), ("damaged", {"task": 3, "labels": []})):
        (whole / name).mkdir(parents=True)
        (whole / name / "results.json").write_text(json.dumps(content))
    return whole


def test_the_best_on_test_comes_first_with_the_settings_that_differ(folder):
    answer = CliRunner().invoke(app, ["runs", str(folder)])
    assert answer.exit_code == 0, answer.stderr
    title, first, second = answer.stdout.splitlines()
    assert title.split() == ["run", "dev", "test", "seconds", "settings", "that", "differ"]
    assert (first.split()[0], first.split()[-1]) == ("good", "learning_rate=5e-05")
    assert (second.split()[0], second.split()[-1]) == ("bad", "learning_rate=0.001")
    assert "damaged" in answer.stderr
    assert "`task`" in answer.stderr


def test_the_csv_holds_scores_and_intervals_in_full(folder, tmp_path):
    CliRunner().invoke(app, ["runs", str(folder), "--csv", str(tmp_path / "runs.csv")])
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    test = json.loads((folder / "good" / "results.json").read_text())["test"]
    assert [float(rows[0][key]) for key in ("test_value", "test_low")] == [test["uar"], test["intervals"]["uar"][0]]


def test_a_folder_without_runs_is_refused_by_name(tmp_path):
    answer = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert answer.exit_code == 2
    assert str(tmp_path) in answer.stderr


@pytest.mark.parametrize("module", ["ser", "ser.cli"])
def test_the_package_runs_as_a_module(module):
    answer = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "compare" in answer.stdout


def test_the_page_holds_table_curves_and_the_difference_to_a_chosen_run(folder, tmp_path):
    log = [{"epoch": epoch, "eval_uar": 0.2 + epoch / 10} for epoch in (1.0, 2.0, 3.0)]
    (folder / "good" / "training_log.json").write_text(json.dumps(log))
    shutil.copy(folder / "good" / "predictions.parquet", folder / "bad")
    page = folder / "runs.html"
    answer = CliRunner().invoke(app, ["runs", str(folder), "--html", str(page), "--against", "bad"])
    assert answer.exit_code == 0, answer.stderr
    text = page.read_text()
    assert text.count("<tr>") == 3
    assert re.search(r"<td>0\.000 ?(\[[^]]*\])?, p = 1\.000</td>", text), re.findall("<td>.*?</td>", text)
    assert "good reaches 0.500" in text
    assert 'scope="row"' in text
    assert "<script" not in text


def test_a_run_to_compare_with_is_one_of_the_table_and_needs_the_page(folder, tmp_path):
    for flags, words in ((["--against", "x", "--html", str(tmp_path / "p.html")], "'x' is none of"),
                         (["--against", "bad"], "--html FILE")):  # fmt: skip
        answer = CliRunner().invoke(app, ["runs", str(folder), *flags])
        assert answer.exit_code == 2
        assert words in answer.stderr
