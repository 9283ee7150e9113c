"""Nothing is called calibrated that is not, and the figure of test stands before the promise of dev."""

import pytest
from fakes.fake_run import LABELS, context, predictions

from ser.evaluation.calibration_words import sentence_on_scores, sentence_on_threshold, what_scores_are
from ser.evaluation.figures import Run
from ser.evaluation.report import render_report
from ser.evaluation.results import build_results
from ser.page.answer import Limits
from ser.page.html import limits_html
from ser.publish.card import make_card

BIAS = dict(zip(LABELS, (0.8, 0.8, 0.2, -0.4, -0.4, -1.0), strict=True))


def results_of(**calibration):
    return build_results(predictions(), LABELS, {**context(), "calibration": calibration})


def pages(results):
    return [
        str(make_card(results)),
        limits_html(results, "a/b", Limits(), 20),
        render_report(Run(results, predictions(), [], {})),
    ]


def test_scores_of_balanced_classes_are_not_called_calibrated_anywhere():
    results = results_of(temperature=1.4, bias=BIAS, calibrate_prior=False, reading="balanced")
    assert what_scores_are(results) == "balanced"
    text = sentence_on_scores(results)
    assert text.startswith("Scores suppose that all classes are equally frequent")
    readings = results["calibration"]["readings"]
    assert f"UAR {readings['without_prior']['uar']:.3f} to {readings['with_prior']['uar']:.3f}" in text
    for page in pages(results):
        assert "calibrated on" not in page
        assert "equally frequent" in page


def test_the_class_wise_error_stands_in_results_report_and_card():
    results = results_of(temperature=1.0, reading="corpus")
    for label in LABELS:
        assert 0 <= results["test"]["per_class"][label]["ece"] <= 1
    assert results["test"]["classwise_ece"] == pytest.approx(
        sum(of["ece"] for of in results["test"]["per_class"].values()) / len(LABELS)
    )
    card, _, report = pages(results)
    assert "calibration error" in card
    for of in results["test"]["per_class"].values():
        assert f"{of['ece']:.3f}" in card
        assert f"{of['ece']:.3f}" in report


def test_scores_of_the_corpus_are_called_calibrated_with_their_errors():
    results = results_of(temperature=1.0, reading="corpus")
    assert what_scores_are(results) == "calibrated"
    assert f"they are off by {results['test']['ece']:.3f}, " in sentence_on_scores(results)


def test_a_model_of_all_clips_is_not_said_to_be_calibrated_on_dev():
    results = results_of(temperature=1.0, reading="corpus") | {"final_fit": {"clips": 400}}
    results["calibration"] |= {"nll_before": 1.0, "nll_after": 1.1}  # of the folds, not of this model
    text = sentence_on_scores(results)
    assert "calibrated on what the folds' models said of clips that they had not heard" in text
    assert f"those models' scores are off by {results['test']['ece']:.3f}" in text
    assert all("calibrated on dev" not in page for page in pages(results))


def test_a_temperature_that_made_test_worse_is_no_calibration():
    results = results_of(temperature=1.0, reading="corpus")
    results["calibration"] |= {"nll_before": 1.0, "nll_after": 1.1}
    assert what_scores_are(results) == "failed"
    assert "NLL 1.000 to 1.100" in sentence_on_scores(results)
    assert all("calibrated on" not in page for page in pages(results))


def test_without_a_temperature_nothing_is_claimed():
    results = results_of(reading="corpus")
    assert what_scores_are(results) == what_scores_are({}) == "uncalibrated"
    assert all("not calibrated" in page for page in pages(results))


SECTION = {
    "test": {"precision": 0.874, "interval": [0.81, 0.92], "coverage": 0.41, "n": 160},
    "threshold": 0.71,
    "unit": "speaker",
}


def told(**changes):
    text = sentence_on_threshold({"calibration": {"precision_90": {**SECTION, **changes}}})
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_figure_of_test_comes_before_the_promise_of_dev():
    assert told().startswith("On test, 87 % [81 %, 92 %] of the answers were right and 41 % of the clips got one")
    assert told().index("87 %") < told().index(
        "a threshold of 0.710, chosen on dev to be right 9 times in 10 on new speakers"
    )
    assert "clips, whose speakers are not known" in told(unit="clip")


def test_pooled_runs_have_a_threshold_each():
    runs = [{"seed": 1, "fold": 0, "threshold": 0.7}, {"seed": 1, "fold": 1, "threshold": None}]
    assert "1 of 2 runs have one" in told(threshold=None, per_run=runs)


def test_no_threshold_is_said_with_its_reason():
    text = told(threshold=None, test=None, why="dev has 2 speakers, too few to promise anything of others")
    assert text.startswith("No score is known above which 9 answers in 10 are right: dev has 2 speakers")
    assert sentence_on_threshold({}) is None


def test_pooled_folds_say_which_of_two_figures_to_print():
    table = predictions(folds=3)
    runs = [{"seed": 1, "fold": fold, "temperature": 1.2} for fold in range(3)]
    results = build_results(table, LABELS, {**context(), "calibration": {"per_run": runs}})
    assert results["which_to_print"].startswith("Print the figure of the pooled test clips: each clip counts once")
    assert results["which_to_print"] in render_report(Run(results, table, [], {})).replace("&#39;", "'")
    assert "which_to_print" not in results_of()


def test_a_class_of_one_speaker_is_named_beside_the_interval_that_it_widens():
    table = predictions()
    one = table.loc[table["truth"] == "fear", "speaker"].iloc[0]
    results = build_results(table[(table["truth"] != "fear") | (table["speaker"] == one)], LABELS, context())
    card, _, report = pages(results)
    assert "Few speakers have some classes (fear of 1 speaker)" in card
    assert "Few speakers have some classes (fear of 1 speaker)" in report
