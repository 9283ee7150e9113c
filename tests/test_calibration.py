"""Temperature, calibration error and abstention do what their formulas say, on tiny and on hopeless data too."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import log_softmax, softmax

from ser.evaluation import calibration


def honest(clips, seed=0, classes=4):
    """Logits whose softmax is the very probability of the truth that is drawn from it."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(clips, classes))
    truth = (softmax(logits, axis=1).cumsum(axis=1) > generator.random((clips, 1))).argmax(axis=1)
    return logits, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    logits, truth = honest(5000)
    assert calibration.fit_temperature(logits * temperature, truth) == pytest.approx(temperature, rel=0.05)


def test_log_probabilities_serve_as_logits():
    logits, truth = honest(300)
    expected = calibration.fit_temperature(logits, truth)
    assert calibration.fit_temperature(log_softmax(logits, axis=1), truth) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("clips", [1, 2, 5, 50])
@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_the_nll_on_dev_never_rises(clips, scale):
    for seed in range(20):
        logits, truth = honest(clips, seed)
        temperature = calibration.fit_temperature(logits * scale, truth)
        before, after = softmax(logits * scale, axis=1), softmax(logits * scale / temperature, axis=1)
        assert calibration.negative_log_likelihood(after, truth) <= (
            calibration.negative_log_likelihood(before, truth) + 1e-12
        )


def test_a_few_dev_clips_that_are_all_right_do_not_make_the_model_certain():
    logits, _ = honest(5)
    assert 0.3 < calibration.fit_temperature(logits, logits.argmax(axis=1)) < 1


def test_no_dev_clip_leaves_the_temperature_at_one():
    assert calibration.fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1


def test_logits_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected \[N, C\]"):
        calibration.fit_temperature(np.zeros((3, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match="not finite"):
        calibration.fit_temperature(np.full((1, 4), -np.inf), np.zeros(1, int))


def test_rescaling_by_the_temperature_undoes_its_inverse_and_keeps_the_order():
    probabilities = softmax(honest(50)[0], axis=1)
    cooled = calibration.rescale(probabilities, 1 / 2.5)
    np.testing.assert_allclose(calibration.rescale(cooled, np.full(50, 2.5)), probabilities)
    np.testing.assert_array_equal(cooled.argmax(axis=1), probabilities.argmax(axis=1))


def test_nll_and_brier_equal_scikit_learn():
    logits, truth = honest(200)
    probabilities = softmax(logits, axis=1)
    assert calibration.negative_log_likelihood(probabilities, truth) == pytest.approx(
        sk.log_loss(truth, probabilities, labels=range(4))
    )
    two = np.stack([probabilities[:, 0], 1 - probabilities[:, 0]], axis=1)
    assert calibration.brier_score(two, (truth != 0).astype(int)) == pytest.approx(
        2 * sk.brier_score_loss(truth == 0, two[:, 0])
    )


def test_a_model_that_knows_nothing_has_the_scores_of_chance():
    truth, flat = np.arange(40) % 4, np.full((40, 4), 0.25)
    assert calibration.negative_log_likelihood(flat, truth) == pytest.approx(np.log(4))
    assert calibration.brier_score(flat, truth) == pytest.approx(0.75)
    assert calibration.expected_calibration_error(flat, truth) == pytest.approx(0, abs=1e-3)


def test_a_certain_and_wrong_model_has_the_worst_scores_and_a_finite_nll():
    wrong = np.eye(4)[np.ones(10, int)]
    truth = np.zeros(10, int)
    assert calibration.brier_score(wrong, truth) == pytest.approx(2)
    assert calibration.expected_calibration_error(wrong, truth) == pytest.approx(1)
    assert np.isfinite(calibration.negative_log_likelihood(wrong, truth))


def test_the_calibration_error_of_an_overconfident_model_is_its_gap():
    truth = np.repeat([0, 1], 500)
    sure = np.tile([0.9, 0.1], (1000, 1))
    assert calibration.expected_calibration_error(sure, truth) == pytest.approx(0.4, abs=1e-6)


def test_debiasing_brings_an_honest_model_nearer_to_zero_than_the_plain_formula():
    plain, debiased = [], []
    for seed in range(30):
        logits, truth = honest(400, seed)
        probabilities = softmax(logits, axis=1)
        bars = calibration.reliability(probabilities, truth)
        plain.append(sum(bar["n"] * abs(bar["confidence"] - bar["accuracy"]) for bar in bars) / 400)
        debiased.append(calibration.expected_calibration_error(probabilities, truth))
    assert np.mean(debiased) < 0.7 * np.mean(plain)


def test_the_calibration_error_does_not_depend_on_the_order_of_clips():
    logits, truth = honest(200)
    probabilities = softmax(logits, axis=1).round(1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(200)
    assert calibration.expected_calibration_error(probabilities[order], truth[order]) == pytest.approx(
        calibration.expected_calibration_error(probabilities, truth)
    )


@pytest.mark.parametrize(("clips", "bins"), [(1, 1), (39, 1), (40, 2), (300, 15), (3000, 15)])
def test_bins_have_equal_mass_and_enough_clips(clips, bins):
    bars = calibration.reliability(softmax(honest(clips)[0], axis=1), honest(clips)[1])
    sizes = [bar["n"] for bar in bars]
    assert len(bars) == bins
    assert sum(sizes) == clips
    assert max(sizes) - min(sizes) <= 1
    assert all(low["highest"] <= high["lowest"] for low, high in pairwise(bars))
    assert all(bar["accuracy_interval"][0] <= bar["accuracy"] <= bar["accuracy_interval"][1] for bar in bars)


def test_the_abstain_curve_ends_at_the_accuracy_of_all_clips():
    logits, truth = honest(500)
    probabilities = softmax(logits, axis=1)
    curve = calibration.risk_coverage(probabilities, truth)
    assert len(curve["coverage"]) == 101
    assert curve["coverage"][-1] == 1
    assert curve["accuracy"][-1] == pytest.approx((logits.argmax(axis=1) == truth).mean())
    assert np.all(np.diff(curve["coverage"]) > 0)
    assert np.all(np.diff(curve["threshold"]) < 0)
    assert curve["accuracy"][20] > curve["accuracy"][-1]


def test_clips_of_one_confidence_are_answered_together():
    curve = calibration.risk_coverage(np.tile([0.7, 0.3], (10, 1)), np.array([0, 1] * 5))
    assert curve == {"threshold": [0.7], "coverage": [1.0], "accuracy": [0.5], "n": [10]}


def test_the_threshold_gives_the_precision_and_none_where_it_is_out_of_reach():
    logits, truth = honest(2000)
    probabilities = softmax(2 * logits, axis=1)
    threshold = calibration.threshold_for_precision(probabilities, truth, 0.9)
    given = calibration.precision_at(probabilities, truth, threshold)
    assert given["precision"] >= 0.9
    assert calibration.precision_at(probabilities, truth, threshold - 0.02)["precision"] < 0.9
    assert calibration.threshold_for_precision(np.full((100, 4), 0.25), np.arange(100) % 4, 0.9) is None
    assert calibration.threshold_for_precision(probabilities[:19], logits[:19].argmax(axis=1), 0.9) is None
    assert calibration.precision_at(probabilities, truth, 1.1) == {"precision": None, "coverage": 0, "n": 0}
