"""A run that learnt nothing says so in the first line everywhere, with three causes; a run that did says nothing."""

import json

import numpy as np
import pytest
from fakes.fake_run import BASELINE, LABELS, context, predictions, training_log, write_run

from ser.evaluation.diagnosis import diagnose
from ser.evaluation.figures import read_run
from ser.evaluation.report import write_report
from ser.evaluation.results import build_results, upper_bound_of_guessing
from ser.publish.card import make_card

FLAT = [
    {"epoch": 1.0, "loss": 1.79, "eval_uar": 0.2},
    {"epoch": 2.0, "loss": 1.78, "eval_uar": 0.17},
    {"epoch": 3.0, "loss": 1.78, "eval_uar": 0.2},
]


def collapsed():
    """Predictions that call nearly every clip neutral."""
    table = predictions()
    scores = {f"p_{label}": 0.9 if label == "neutral" else 0.02 for label in LABELS}
    return table.assign(**scores)


def results_of(table, **sections):
    return build_results(table, LABELS, {**context(), **sections})


def test_a_run_that_learnt_says_nothing():
    assert diagnose(results_of(predictions()), training_log()) is None


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_guessing_stays_under_the_upper_bound_of_chance_39_times_in_40(classes):
    generator = np.random.default_rng(0)
    support = generator.integers(20, 200, classes)
    hits = np.stack([generator.binomial(n, 1 / classes, 20_000) / n for n in support])
    assert (hits.mean(axis=0) > upper_bound_of_guessing(support)).mean() == pytest.approx(0.025, abs=0.01)
    assert upper_bound_of_guessing(np.append(support, 0)) == upper_bound_of_guessing(support)


def test_a_run_no_better_than_chance_is_named_with_three_causes_that_its_own_figures_show():
    found = diagnose(results_of(collapsed(), config={"model_name_or_path": "a/b", "learning_rate": 1e-3}), FLAT)
    assert found.finding.startswith("This run is no better than chance: UAR 0.167; guessing gets up to 0.2")
    assert "Dev never improved: 0.200 at the first of 3 evaluations" in found.finding
    assert len(found.causes) == 3
    assert found.causes[0].startswith("learning_rate 0.001 destroys what a pretrained encoder knows")
    assert found.causes[1].startswith("It predicts neutral for 100\N{NO-BREAK SPACE}% of clips")
    assert found.causes[2].startswith("The training loss fell from 1.790 to 1.780 only")
    assert found.text.startswith(f"{found.finding} Likely causes: (1) learning_rate")


def test_a_run_below_its_baseline_is_named_with_both_figures():
    better = {**BASELINE, "uar": 0.9, "difference": {"uar": -0.2, "interval": [-0.3, -0.1], "p": 0.001}}
    found = diagnose(results_of(predictions(), baseline=better))
    assert "worse than its baseline: UAR 0." in found.finding
    assert "SVM on functionals 0.900" in found.finding
    assert len(found.causes) == 3
    assert found.causes[0].startswith("The encoder is not pretrained")


def test_overfitting_is_told():
    log = [{"epoch": float(k), "loss": 1.0 / 10**k, "eval_uar": 0.3} for k in range(1, 20)]
    found = diagnose(results_of(predictions(), config={"model_name_or_path": "a/b"}), log)
    assert found.finding.startswith("Dev never improved")
    assert found.causes[0].startswith("The model overfits")


def test_one_evaluation_is_no_curve_and_a_control_is_to_score_like_chance():
    assert diagnose(results_of(predictions()), FLAT[:1]) is None
    assert diagnose(results_of(collapsed(), config={"shuffle_train_labels": True}), FLAT) is None


def test_report_card_and_console_say_it_first(tmp_path, capsys):
    from run_ser import print_scores

    run = write_run(tmp_path / "run", collapsed(), LABELS, context(), FLAT)
    results, found = json.loads((run / "results.json").read_text()), diagnose(read_run(run).results, FLAT)
    page = write_report(run).read_text()
    assert page.index(found.finding) < page.index('class="corpus"') < page.index("<h1>")
    assert all(cause in page for cause in found.causes)
    card = str(make_card(results, log=FLAT))
    assert card.index(found.finding) < card.index("Measured on")
    print_scores(results, FLAT)
    assert capsys.readouterr().out.splitlines()[0] == found.text
