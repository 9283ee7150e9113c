"""Scores equal scikit-learn's wherever that defines one, and are null wherever nothing defines one."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk

from ser.evaluation import metrics
from ser.evaluation.trainer_metrics import UAR

LABELS = ["a", "b", "c", "d"]
CASES = {
    "random": lambda g: (g.integers(4, size=200), g.integers(4, size=200)),
    "imbalanced": lambda g: (g.choice(4, p=[0.9, 0.06, 0.03, 0.01], size=200), g.integers(4, size=200)),
    "a class absent from the truth": lambda g: (g.integers(3, size=50), g.integers(4, size=50)),
    "a class never predicted": lambda g: (g.integers(4, size=50), g.integers(3, size=50)),
    "a class in neither": lambda g: (g.integers(3, size=50), g.integers(3, size=50)),
    "one class": lambda g: (np.full(9, 2), np.full(9, 2)),
    "one class, always wrong": lambda g: (np.full(9, 2), np.full(9, 1)),
    "one clip": lambda g: (np.array([0]), np.array([3])),
    "all right": lambda g: (np.arange(4), np.arange(4)),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def pair(request):
    return CASES[request.param](np.random.default_rng(0))


def one_hot(predicted, num_classes=4):
    return np.eye(num_classes)[predicted]


def test_scores_equal_scikit_learn(pair):
    truth, predicted = pair
    scores = metrics.score(truth, one_hot(predicted), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["uar"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert scores["n"] == len(truth)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro", zero_division=0))
    assert scores["weighted_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="weighted", zero_division=0))
    assert scores["confusion"] == sk.confusion_matrix(truth, predicted, labels=range(4)).tolist()


def test_scores_per_class_equal_scikit_learn_and_are_null_where_that_is_undefined(pair):
    truth, predicted = pair
    per_class = metrics.score(truth, one_hot(predicted), LABELS)["per_class"]
    theirs = sk.precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=np.nan)
    for values, name in zip(theirs, ("precision", "recall", "f1", "support"), strict=True):
        ours = [np.nan if per_class[label][name] is None else per_class[label][name] for label in LABELS]
        np.testing.assert_allclose(ours, values)


def test_names_and_positions_of_classes_give_the_same_scores():
    truth, predicted = CASES["random"](np.random.default_rng(1))
    assert metrics.score(np.array(LABELS)[truth], one_hot(predicted), LABELS) == metrics.score(
        truth, one_hot(predicted), LABELS
    )


def test_many_confusion_matrices_are_scored_at_once_as_one_by_one():
    many = np.random.default_rng(0).integers(5, size=(7, 2, 4, 4))
    for score in (metrics.uar, metrics.accuracy, metrics.macro_f1, metrics.weighted_f1):
        np.testing.assert_allclose(score(many)[3, 1], score(many[3, 1]))


@pytest.mark.parametrize(
    ("truth", "probabilities", "says"),
    [
        ([], np.zeros((0, 4)), "at least one clip"),
        (["a", "joy"], one_hot([0, 1]), r"truth holds \['joy'\]"),
        ([0, 4], one_hot([0, 1]), r"truth holds \[4\]"),
        ([-1, 0], one_hot([0, 1]), r"truth holds \[-1\]"),
        ([0, 1], one_hot([0, 1], 3), r"\(2, 4\)"),
        ([0, 1], one_hot([0, 1]) * 3, "apply softmax"),
        ([0, 1], one_hot([0, 1]) * np.nan, "finite"),
        ([0], [[1.5, -0.5, 0, 0]], "0 or more"),
    ],
)
def test_values_that_cannot_be_scored_are_named(truth, probabilities, says):
    with pytest.raises(ValueError, match=says):
        metrics.score(truth, probabilities, LABELS)


def test_the_first_row_that_is_no_probability_is_named_among_good_ones():
    rows = one_hot([0, 1, 2])
    rows[1] *= 3
    with pytest.raises(ValueError, match=r"row 1 of the probabilities is \[0.0, 3.0, 0.0, 0.0\] \(1 such rows\)"):
        metrics.score([0, 1, 2], rows, LABELS)


def test_rows_that_sum_to_one_but_for_rounding_are_made_to_do_so():
    rough = np.random.default_rng(0).dirichlet(np.ones(4), 50).astype(np.float16)
    np.testing.assert_allclose(metrics.check_probabilities(rough, 50, LABELS).sum(axis=1), 1, rtol=1e-12)


def test_concordance_follows_lin():
    x = np.array([1.0, 2, 3, 4, 5])
    assert metrics.concordance(x, x) == pytest.approx(1)
    assert metrics.concordance(x, 6 - x) == pytest.approx(-1)
    assert metrics.concordance(x, x + 1) == pytest.approx(2 * 2 / (2 + 2 + 1))
    assert metrics.concordance(x, np.full(5, 3.0)) == pytest.approx(0)
    assert np.isnan(metrics.concordance(np.ones(5), np.ones(5)))


def test_concordance_survives_a_large_offset():
    x, noise = np.random.default_rng(0).normal(size=(2, 100))
    assert metrics.concordance(x + 1e7, x + noise + 1e7) == pytest.approx(metrics.concordance(x, x + noise), abs=1e-6)


def test_sums_over_any_clips_give_the_concordance_of_those_clips_for_several_dimensions_at_once():
    truth, noise = np.random.default_rng(0).normal(3, 1, size=(2, 40, 2))
    terms = metrics.concordance_terms(truth, truth + noise)
    drawn = np.random.default_rng(1).integers(10, size=(5, 30))
    found = metrics.concordance_of_sums(terms[drawn].sum(axis=1))
    assert found.shape == (5, 2)
    for sample, dimensions in zip(drawn, found, strict=True):
        expected = [metrics.concordance(truth[sample, k], (truth + noise)[sample, k]) for k in range(2)]
        np.testing.assert_allclose(dimensions, expected)


def test_one_clip_agrees_by_nothing_and_no_clip_has_no_concordance():
    # Sums of 1, x, y, x^2, y^2 and xy for the clip (2, 3), and for none.
    found = metrics.concordance_of_sums(np.array([[1.0, 2, 3, 4, 9, 6], [0, 0, 0, 0, 0, 0]]))
    np.testing.assert_array_equal(found, [0, np.nan])


@pytest.mark.parametrize("spoilt", ["truth", "predicted"])
def test_a_single_value_that_is_not_finite_is_refused(spoilt):
    values = {"truth": np.ones((5, 2)), "predicted": np.ones((5, 2))}
    values[spoilt][3, 1] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        metrics.score_regression(**values, dimensions=["arousal", "valence"])


def test_a_regression_is_scored_by_dimension():
    truth = np.random.default_rng(0).normal(size=(50, 2))
    scores = metrics.score_regression(truth, truth + [[0, 3]], ["arousal", "valence"])
    assert scores["per_dimension"]["arousal"] == {"ccc": pytest.approx(1), "mae": 0, "rmse": 0}
    assert scores["per_dimension"]["valence"]["rmse"] == pytest.approx(3)
    assert scores["per_dimension"]["valence"]["mae"] == pytest.approx(3)
    assert scores["ccc"] == pytest.approx((1 + scores["per_dimension"]["valence"]["ccc"]) / 2)
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        metrics.score_regression(truth, truth, ["arousal", "valence", "dominance"])
    with pytest.raises(ValueError, match="not finite"):
        metrics.score_regression(truth, truth * np.nan, ["arousal", "valence"])


def test_metrics_for_the_trainer_equal_the_scores_offline(pair):
    from ser.evaluation import trainer_metrics as tm

    truth, predicted = pair
    expected = metrics.score(truth, one_hot(predicted), LABELS)
    for metric in (tm.UAR, tm.Accuracy, tm.MacroF1, tm.WeightedF1, tm.ConfusionMatrix):
        result = metric(num_classes=4).compute(predictions=predicted, references=truth)
        np.testing.assert_allclose(result[metric.name_of_score], expected[metric.name_of_score])
    for metric in (tm.Recall, tm.Precision):
        result = metric(num_classes=4).compute(predictions=predicted, references=truth)[metric.name_of_score]
        wanted = [expected["per_class"][label][metric.name_of_score] for label in LABELS]
        assert [None if np.isnan(value) else value for value in result] == pytest.approx(wanted)


def test_the_example_of_the_metrics_for_the_trainer_is_true():
    import doctest

    from ser.evaluation import trainer_metrics

    assert doctest.testmod(trainer_metrics).attempted == 1
    assert doctest.testmod(trainer_metrics).failed == 0


def test_a_metric_for_the_trainer_adds_up_batches():
    metric = UAR(num_classes=3)
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1], references=[1])
    assert metric.compute() == {"uar": 0.75}


def test_a_metric_for_the_trainer_names_what_it_cannot_score():
    with pytest.raises(ValueError, match="0 to 2; expected 0 to 1"):
        UAR(num_classes=2).compute(predictions=[0, 2], references=[0, 1])
    with pytest.raises(ValueError, match="no prediction"):
        UAR().compute(predictions=[], references=[])


def test_a_metric_for_the_trainer_may_keep_its_numbers_in_a_file(tmp_path):
    metric = UAR(num_classes=3, keep_in_memory=False, cache_dir=str(tmp_path))
    for _ in range(2):
        metric.add_batch(predictions=[0, 1], references=[0, 0])
        metric.add(prediction=1, reference=1)
        assert metric.compute() == {"uar": 0.75}


@pytest.mark.heavy
def test_a_metric_for_the_trainer_joins_two_processes(tmp_path):
    program = """
import sys
from ser.evaluation.trainer_metrics import UAR
rank = int(sys.argv[1])
metric = UAR(3, num_process=2, process_id=rank, experiment_id="one", cache_dir=sys.argv[2], timeout=60)
predictions, references = [([0, 1], [0, 0]), ([1, 2], [1, 1])][rank]
metric.add_batch(predictions=predictions, references=references)
print(metric.compute())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.Popen([*command, rank, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in "01"
    ]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["{'uar': 0.5}", "None"]
