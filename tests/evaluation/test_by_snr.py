import numpy as np
import pytest
from fakes.fake_predictions import fake_regression
from fakes.fake_run import LABELS, context, predictions, write_run

from ser.evaluation.by_snr import scores_by_snr
from ser.evaluation.report import write_report
from ser.evaluation.sections import classification_scores
from ser.run_folder import add_to_results


@pytest.fixture(scope="module")
def table():
    return predictions(seeds=(1, 2))


def ratios(table):
    """A ratio for each clip, the higher the more often the clip is right."""
    right = table[[f"p_{label}" for label in LABELS]].to_numpy().argmax(axis=1) == table["truth"].map(LABELS.index)
    share = right.groupby(table["id"]).mean()
    return dict(zip(share.index, 10 + 20 * share + np.random.default_rng(0).random(len(share)), strict=True))


def test_clips_are_in_three_equal_groups_from_noisy_to_clean_with_scores_of_their_own(table):
    test = table[table["split"] == "test"]
    known = ratios(test)
    groups = scores_by_snr(table, known, LABELS)
    assert sum(group["n"] for group in groups) == 400
    assert {group["n"] for group in groups} <= {133, 134}
    assert groups[0]["high"] == groups[1]["low"]
    cleanest = test[test["id"].map(known) >= groups[2]["low"]]
    assert groups[2]["uar"] == pytest.approx(classification_scores(cleanest, LABELS)["uar"])
    assert groups[0]["uar"] < groups[1]["uar"] < groups[2]["uar"]


def test_few_clips_or_equal_ratios_give_no_groups(table):
    known = ratios(table)
    assert scores_by_snr(table, dict(list(known.items())[:50]), LABELS) == []
    assert scores_by_snr(table, dict.fromkeys(known, 30.0), LABELS) == []


def test_a_regression_has_its_concordance():
    table = fake_regression()
    known = dict(zip(table["id"], np.arange(len(table)) * 0.1, strict=True))
    groups = scores_by_snr(table, known, ["valence", "arousal"])
    assert len(groups) == 3
    assert all("ccc" in group for group in groups)


def test_the_report_shows_the_groups_and_links_to_the_data_page_where_there_is_one(table, tmp_path):
    run = write_run(tmp_path / "run", table, LABELS, context())
    assert 'href="data.html"' not in (before := write_report(run).read_text(encoding="utf-8"))
    assert 'id="snr"' not in before
    groups = scores_by_snr(table, ratios(table), LABELS)
    add_to_results(run, snr=groups)
    (run / "data.html").write_text("a page")
    page = write_report(run).read_text(encoding="utf-8")
    assert f"{groups[0]['low']:.1f} to {groups[0]['high']:.1f} dB" in page
    assert '<a href="data.html">Data</a>' in page
