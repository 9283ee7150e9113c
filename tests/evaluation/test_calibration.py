"""Temperature, calibration error and abstention do what their formulas say, on tiny and on hopeless data too."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, foldnorm

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


def cost(logits, truth, log_temperature, bias=0.0):
    """What the docstrings say is minimised: -ln p(truth) of all clips, and standard normal priors."""
    logs = log_softmax(logits / np.exp(log_temperature) + bias, axis=1)
    return -logs[np.arange(len(truth)), truth].sum() + (log_temperature**2 + np.sum(np.square(bias))) / 2


@pytest.mark.parametrize("clips", [1, 3, 30])
def test_no_other_temperature_fits_better_under_the_prior(clips):
    for seed in range(5):
        logits, truth = honest(clips, seed)
        found = np.log(calibration.fit_temperature(3 * logits, truth))
        assert cost(3 * logits, truth, found) <= min(
            cost(3 * logits, truth, other) for other in np.linspace(-3, 3, 601)
        )


def test_the_temperature_stays_in_its_range():
    logits, truth = honest(5000)
    assert calibration.fit_temperature(1000 * logits, truth) == pytest.approx(20, rel=1e-4)
    assert calibration.fit_temperature(logits / 1000, truth) == pytest.approx(0.05, rel=1e-4)
    assert calibration.fit_prior(1000 * logits, truth)[0] == pytest.approx(20)
    assert calibration.fit_prior(logits / 1000, truth)[0] == pytest.approx(0.05)


def test_no_dev_clip_leaves_the_temperature_at_one():
    assert calibration.fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1


def test_logits_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected \[N, C\]"):
        calibration.fit_temperature(np.zeros((3, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match="4 logits are not finite"):
        calibration.fit_temperature(np.full((1, 4), -np.inf), np.zeros(1, int))
    with pytest.raises(ValueError, match="1 logits are not finite"):
        calibration.fit_prior(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.zeros(2, int))


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


# Clips, right ones and summed confidences of four bins: one is empty, others hold a clip, two, and thirty.
BINS = np.array([[0, 0, 0.0], [1, 1, 0.9], [2, 1, 1.3], [30, 20, 25.5]])


def test_the_calibration_error_of_bins_subtracts_the_bias_that_kumar_derives():
    expected = 0.0
    for clips, hits, sure in BINS[1:]:
        right, gap = hits / clips, abs(sure - hits) / clips
        deviation = np.sqrt(right * (1 - right) / max(clips - 1, 1))
        mean_of_gap = foldnorm(gap / deviation, scale=deviation).mean() if deviation else gap
        expected += clips * (2 * gap - mean_of_gap) / 33
    found = calibration.calibration_error_of_bins(*np.moveaxis(np.stack([BINS, BINS[::-1]]), -1, 0))
    np.testing.assert_allclose(found, expected)
    assert calibration.calibration_error_of_bins(*np.array([[30.0], [20.0], [20.0]])) == 0


def test_the_standard_error_of_the_calibration_error_is_that_of_shares_to_which_four_clips_are_added():
    clips, hits = np.stack([BINS[:, :2], np.array([[10, 4], [10, 7], [10, 9], [3, 3]])]).transpose(2, 0, 1)
    errors = []
    for own_clips, own_hits in zip(clips, hits, strict=True):
        added = 4 / np.count_nonzero(own_clips)
        variances = [
            (n / own_clips.sum()) ** 2 * share * (1 - share) / (n + added)
            for n, share in zip(own_clips, (own_hits + added / 2) / (own_clips + added), strict=True)
        ]
        errors.append(np.sqrt(sum(variances)))
    assert calibration.least_error_of_bins(clips, hits) == pytest.approx(np.mean(errors))


def test_the_wilson_interval_is_that_of_scipy():
    for hits, clips in ((0, 5), (3, 10), (99, 100), (7, 7)):
        theirs = binomtest(hits, clips).proportion_ci(0.9, method="wilson")
        np.testing.assert_allclose(calibration.wilson_interval(hits, clips, level=0.9), theirs, atol=1e-12)
    assert calibration.wilson_interval(0, 5)[0] == 0
    assert calibration.wilson_interval(7, 7)[1] == 1


def test_a_bar_counts_each_clip_once_however_many_seeds_scored_it():
    confidence = np.tile(np.linspace(0.6, 0.9, 20), 3)
    right = np.tile(np.arange(20) < 12, 3)
    probabilities, truth = np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)
    (bar,) = calibration.reliability(probabilities, truth, np.tile(np.arange(20), 3))
    assert bar == {
        "confidence": pytest.approx(0.75),
        "accuracy": 0.6,
        "accuracy_interval": pytest.approx(calibration.wilson_interval(12, 20)),
        "n": 20,
        "lowest": 0.6,
        "highest": 0.9,
    }
    twice = np.repeat(np.arange(20), 2)
    assert len(calibration.reliability(probabilities[:40], truth[:40], twice)) == 1
    assert len(calibration.reliability(probabilities[:40], truth[:40])) == 2


@pytest.mark.parametrize(("clips", "bins"), [(1, 1), (39, 1), (40, 2), (300, 15), (3000, 15)])
def test_bins_have_equal_mass_and_enough_clips(clips, bins):
    bars = calibration.reliability(softmax(honest(clips)[0], axis=1), honest(clips)[1])
    sizes = [bar["n"] for bar in bars]
    assert len(bars) == bins
    assert sum(sizes) == clips
    assert max(sizes) - min(sizes) <= 1
    assert all(low["highest"] <= high["lowest"] for low, high in pairwise(bars))
    assert all(bar["accuracy_interval"][0] <= bar["accuracy"] <= bar["accuracy_interval"][1] for bar in bars)


def test_forty_clips_make_two_bins_and_forty_rows_of_two_seeds_one():
    confidence = np.linspace(0, 1, 40)
    assert calibration.bin_of(confidence).tolist() == [0] * 20 + [1] * 20
    assert calibration.bin_of(confidence, num_seeds=2).tolist() == [0] * 40


def test_rows_of_two_seeds_are_half_as_many_clips_and_those_of_one_stay_whole_numbers():
    assert calibration.per_seed([6, 3], 2).tolist() == [3, 1.5]
    assert isinstance(calibration.per_seed(6, 1).item(), int)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_prior_that_was_taken_out_is_found_beside_the_temperature(temperature):
    logits, truth = honest(8000)
    bias = np.array([1.5, 0.5, -0.5, -1.5])
    found, biases = calibration.fit_prior((logits - bias) * temperature, truth)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(biases, bias, atol=0.15)
    assert biases.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("clips", [1, 3, 30])
def test_no_other_temperature_and_biases_fit_better_under_their_priors(clips):
    logits, truth = honest(clips)
    temperature, bias = calibration.fit_prior(logits, truth)
    best = minimize(lambda p: cost(logits, truth, p[0], p[1:]), np.zeros(5)).x
    np.testing.assert_allclose([np.log(temperature), *bias], [best[0], *(best[1:] - best[1:].mean())], atol=2e-3)


@pytest.mark.parametrize("clips", [0, 1, 2, 5, 50])
def test_the_nll_on_dev_never_rises_with_a_prior(clips):
    for seed in range(10):
        logits, truth = honest(clips, seed)
        temperature, bias = calibration.fit_prior(10 * logits, truth)
        if clips == 0:
            assert (temperature, bias.tolist()) == (1.0, [0.0] * 4)
            continue
        before, after = softmax(10 * logits, axis=1), softmax(10 * logits / temperature + bias, axis=1)
        assert calibration.negative_log_likelihood(after, truth) <= (
            calibration.negative_log_likelihood(before, truth) + 1e-12
        )


def balanced(clips, seed=0):
    """Scores as of a world of equal classes, and clips of one in which the last class is rare."""
    logits, truth = honest(4 * clips, seed)
    kept = np.random.default_rng(seed).random(4 * clips) < np.array([1, 0.5, 0.2, 0.05])[truth]
    return softmax(logits[kept], axis=1), truth[kept]


def test_scores_of_balanced_classes_are_not_called_calibrated_by_the_class_wise_error():
    probabilities, truth = balanced(2000)
    errors = calibration.class_calibration_errors(probabilities, truth)
    said, is_so = probabilities[:, 3].mean(), (truth == 3).mean()
    assert said > 2 * is_so
    assert errors[3] == pytest.approx(said - is_so, abs=0.02)
    bias = calibration.fit_prior(np.log(probabilities), truth)[1]
    mended = calibration.class_calibration_errors(calibration.shift(probabilities, bias), truth)
    assert mended.mean() < 0.3 * errors.mean()


def test_a_shift_is_undone_by_its_opposite():
    probabilities = softmax(honest(50)[0], axis=1)
    bias = np.array([2.0, -1.0, 0.0, 0.5])
    np.testing.assert_allclose(calibration.shift(calibration.shift(probabilities, bias), -bias), probabilities)


@pytest.mark.parametrize("seeds", [3, 5])
def test_bars_hold_the_truth_as_often_with_several_seeds_as_with_one(seeds):
    held = {1: [], seeds: []}
    for number in range(200):
        generator = np.random.default_rng(number)
        confidence = generator.uniform(0.5, 1, 100)
        right = generator.random(100) < confidence
        for k in held:
            shaken = np.clip(np.tile(confidence, k) + generator.normal(0, 0.002, 100 * k), 0.5, 1)
            probabilities, truth = np.stack([shaken, 1 - shaken], axis=1), np.where(np.tile(right, k), 0, 1)
            bars = calibration.reliability(probabilities, truth, np.tile(np.arange(100), k))
            held[k] += [b["accuracy_interval"][0] <= b["confidence"] <= b["accuracy_interval"][1] for b in bars]
            assert sum(b["n"] for b in bars) == pytest.approx(100)
    assert np.mean(held[seeds]) == pytest.approx(np.mean(held[1]), abs=0.02)
    assert np.mean(held[seeds]) > 0.93
