"""Intervals hold the truth as often as they say, for speakers who differ; they shrink with speakers, not with clips."""

import numpy as np
import pandas as pd
import pytest
from fakes.fake_predictions import LABELS, fake_predictions, fake_regression
from scipy.special import expit

from ser.evaluation import intervals, metrics
from ser.evaluation.calibration import wilson_interval
from ser.evaluation.least_errors import mean_error
from ser.evaluation.scored import scored
from ser.evaluation.sections import classification_intervals, regression_intervals


def two_class_confusions(speakers, clips, spread, seed):
    """Clips of two classes, equally many for each speaker, and speakers whose recall differs around 0.5."""
    generator = np.random.default_rng(seed)
    hits = generator.binomial(clips, expit(generator.normal(0, spread, (speakers, 2))))
    confusions = np.zeros((speakers, 1, 2, 2), int)
    confusions[:, 0, [0, 1], [0, 1]] = hits
    confusions[:, 0, [0, 1], [1, 0]] = clips - hits
    return confusions


def width(interval):
    return interval[1] - interval[0]


def intervals_of(table, **kwargs):
    return intervals.score_intervals(scored(table, LABELS).confusions(), LABELS, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [3, 10, 40])
def test_an_interval_over_speakers_holds_the_truth_about_as_often_as_it_says(speakers):
    found = [
        intervals.score_intervals(two_class_confusions(speakers, 20, 1.0, seed), "ab", 300)["uar"]
        for seed in range(400)
    ]
    covered = np.mean([low <= 0.5 <= high for low, high in found])
    assert 0.91 <= covered <= 0.995


def test_an_interval_over_clips_is_too_narrow_for_speakers_who_differ():
    held = {"speakers": 0, "clips": 0}
    for seed in range(100):
        of_speakers = two_class_confusions(10, 20, 1.0, seed)
        of_clips = np.concatenate(
            [
                np.repeat(np.eye(4, dtype=int)[[cell]].reshape(1, 1, 2, 2), count, axis=0)
                for cell, count in enumerate(of_speakers.sum(axis=0).ravel())
            ]
        )
        for unit, confusions in (("speakers", of_speakers), ("clips", of_clips)):
            low, high = intervals.score_intervals(confusions, "ab", 300)["uar"]
            held[unit] += low <= 0.5 <= high
    assert held["clips"] < 80 < 90 <= held["speakers"]


def test_an_interval_shrinks_with_speakers_and_hardly_with_their_clips():
    def mean_width(speakers, clips):
        drawn = [two_class_confusions(speakers, clips, 1.5, seed) for seed in range(9)]
        return np.mean([width(intervals.score_intervals(confusions, "ab")["uar"]) for confusions in drawn])

    few, more_clips, more_speakers = mean_width(10, 40), mean_width(10, 400), mean_width(100, 40)
    assert more_speakers < 0.4 * few
    assert more_clips > 0.8 * few


def test_an_interval_holds_its_estimate_and_stays_within_its_bounds():
    for skill in (-3.0, 0.0, 1.5, 6.0):
        table = fake_predictions(skill=skill, seeds=(1, 2))
        found = intervals_of(table)
        confusion = np.array(metrics_of(table)["confusion"])
        for name, score in (("uar", metrics.uar), ("accuracy", metrics.accuracy), ("macro_f1", metrics.macro_f1)):
            assert 0 <= found[name][0] <= score(confusion) + 0.01
            assert score(confusion) - 0.01 <= found[name][1] <= 1
        for label, recall in zip(LABELS, metrics.recalls(confusion), strict=True):
            assert found["recall"][label][0] <= recall <= found["recall"][label][1]


def metrics_of(table):
    from ser.evaluation.sections import classification_scores

    return classification_scores(table, LABELS)


def test_the_same_predictions_give_the_same_interval():
    assert intervals_of(fake_predictions()) == intervals_of(fake_predictions())


def test_the_order_of_clips_and_the_names_of_speakers_do_not_matter():
    table = fake_predictions()
    renamed = table.assign(speaker="x" + table["speaker"]).sample(frac=1, random_state=0)
    assert intervals_of(renamed)["uar"] == pytest.approx(intervals_of(table)["uar"])


def test_repeating_a_run_under_another_seed_does_not_feign_certainty():
    table = fake_predictions()
    twice = np.repeat([1, 2], len(table))
    doubled = type(table)(np.tile(table.to_numpy(), (2, 1)), columns=table.columns).astype(table.dtypes)
    assert intervals_of(doubled.assign(seed=twice))["uar"] == pytest.approx(intervals_of(table)["uar"])


@pytest.mark.parametrize("right", [True, False])
def test_a_perfect_score_is_not_certain(right):
    confusions = np.zeros((8, 1, 2, 2), int)
    confusions[:, 0, [0, 1], [0, 1] if right else [1, 0]] = 5
    low, high = intervals.score_intervals(confusions, "ab")["uar"]
    assert (high == 1 and 0.5 < low < 0.98) if right else (low == 0 and 0.02 < high < 0.5)


def test_a_class_of_one_speaker_or_of_none_has_no_interval():
    confusions = np.zeros((4, 1, 3, 3), int)
    confusions[:, 0, 0, [0, 1]] = 3
    confusions[0, 0, 1, [0, 1]] = 3
    recall = intervals.score_intervals(confusions, "abc")["recall"]
    assert recall["a"] is not None
    assert recall["b"] is None
    assert recall["c"] is None


def counts(*recalls, speakers=1):
    """Confusions of speakers who all have the same (right, clips) of each class; errors go to the next class."""
    confusions = np.zeros((speakers, 1, len(recalls), len(recalls)), int)
    for c, (right, clips) in enumerate(recalls):
        confusions[:, 0, c, c] = right
        confusions[:, 0, c, (c + 1) % len(recalls)] = clips - right
    return confusions


@pytest.mark.parametrize(
    ("confusions", "low", "high"),
    [
        (counts((3, 3), (3, 3), (0, 3), (3, 3), speakers=2), 0.67, 0.82),  # 24 clips: UAR 0.75
        (counts((4, 5), (4, 5), speakers=10), 0.74, 0.86),  # ten speakers at 8 of 10 each
        (counts((5, 5), (0, 5), speakers=10), 0.485, 0.515),  # a model that says one class alone
    ],
)
def test_no_interval_claims_more_than_so_many_independent_clips_could(confusions, low, high):
    found = intervals.score_intervals(confusions, [str(c) for c in range(confusions.shape[-1])])
    for score in ("uar", "accuracy"):
        assert found[score][0] < low < high < found[score][1]
    assert found["macro_f1"][1] - found["macro_f1"][0] > high - low


def test_the_floor_of_one_share_is_wilsons_interval():
    found = intervals.score_intervals(counts((4, 5), (4, 5), speakers=10), "ab")
    assert found["accuracy"] == pytest.approx(wilson_interval(80, 100))
    assert found["recall"]["a"] == pytest.approx(wilson_interval(40, 50))


def test_seeds_that_agree_are_no_surer_than_one_and_seeds_that_differ_are():
    table = fake_predictions()
    same = pd.concat([table.assign(seed=seed) for seed in (1, 2, 3)], ignore_index=True)
    one, three, other = (
        mean_error(scored(t, LABELS).moments()) for t in (table, same, fake_predictions(seeds=(1, 2, 3)))
    )
    assert three == pytest.approx(one)
    assert other < 0.95 * one


def class_of_few(holders, seed, speakers=20):
    """Four classes, the last one of few speakers; speakers differ, and their recalls are 0.5 on average."""
    generator = np.random.default_rng(seed)
    confusions = np.zeros((speakers, 1, 4, 4), int)
    clips = np.full((speakers, 4), 5)
    clips[:, 3] = 0
    clips[:holders, 3] = 20 // holders
    ease = generator.normal(0, 1, (speakers, 1)) + generator.normal(0, 1, (speakers, 4))
    hits = generator.binomial(clips, expit(ease))
    for c in range(4):
        confusions[:, 0, c, c] = hits[:, c]
        confusions[:, 0, c, (c + 1) % 4] = clips[:, c] - hits[:, c]
    return confusions


@pytest.mark.parametrize("holders", [1, 2])
def test_a_class_of_one_or_two_speakers_widens_the_interval_until_it_holds_the_truth(holders):
    found = [intervals.score_intervals(class_of_few(holders, seed), "abcd", 300)["uar"] for seed in range(300)]
    assert np.mean([low <= 0.5 <= high for low, high in found]) >= 0.94


def test_a_class_of_few_speakers_is_named():
    table = fake_predictions()
    first = table.loc[table["truth"] == "fear", "speaker"].iloc[0]
    table = table[(table["truth"] != "fear") | (table["speaker"] == first)]
    assert classification_intervals(table, LABELS)["few_speakers"] == {"fear": 1}
    assert "few_speakers" not in classification_intervals(fake_predictions(1000), LABELS)


def test_predictions_that_do_not_vary_have_no_interval_of_ccc():
    table = fake_regression().assign(pred_arousal=3.0)
    assert regression_intervals(table, ["arousal"])["intervals"]["ccc"] is None


def test_speakers_of_one_ccc_do_not_make_it_certain():
    one = fake_regression(20, 1)
    same = [one.assign(id=one["id"] + str(k), speaker=f"S{k}") for k in range(6)]
    low, high = regression_intervals(pd.concat(same, ignore_index=True), ["valence"])["intervals"]["ccc"]
    assert high - low > 0.2


def test_the_effective_number_of_speakers_counts_equals_fully_and_a_giant_as_one():
    assert intervals.effective_clusters(np.full((10, 2), 7)) == pytest.approx(10)
    assert intervals.effective_clusters(np.array([[1000], [1], [1]])) == pytest.approx(1, abs=0.01)
    assert intervals.effective_clusters(np.array([[5, 0, 0], [5, 3, 0]])) == pytest.approx(1 / (0.25**2 + 0.75**2))


def test_the_error_of_few_clusters_is_put_right_for_their_number():
    draws = np.array([0.4, 0.6, np.nan, 0.4, 0.6])
    spread = intervals.spread_of(0.5, draws, effective=5.0)
    assert spread.deviation == pytest.approx(np.sqrt(5 / 4) * np.nanstd(draws, ddof=1))
    assert spread.freedom == 4
    assert np.isnan(intervals.spread_of(0.5, draws, effective=1.0).deviation)


def test_the_difference_of_two_groups_is_wider_than_each():
    first, second = intervals.Spread(0.7, 0.03, 9), intervals.Spread(0.6, 0.04, 4)
    gap = first - second
    assert gap.value == pytest.approx(0.1)
    assert gap.deviation == pytest.approx(0.05)
    assert 4 < gap.freedom < 13
    assert intervals.plain_interval(gap)[0] < 0.1 < intervals.plain_interval(gap)[1]


def test_alike_clips_are_drawn_as_often_together_as_apart():
    cells = np.array([[1, 0]] * 30 + [[0, 1]] * 10)
    drawn = intervals.resample(cells, draws=20000)
    assert (drawn.sum(axis=1) == 40).all()
    assert drawn[:, 0].mean() == pytest.approx(30, abs=0.1)
    assert drawn[:, 0].std() == pytest.approx(np.sqrt(40 * 0.75 * 0.25), rel=0.02)


def test_concordance_has_an_interval_of_each_dimension_and_of_the_mean():
    from ser.evaluation.sections import regression_intervals, regression_scores

    table = fake_regression(seeds=(1, 2))
    scores = regression_scores(table, ["arousal", "valence"])
    found = regression_intervals(table, ["arousal", "valence"])["intervals"]
    assert found["ccc"][0] < scores["ccc"] < found["ccc"][1]
    low, high = found["per_dimension"]["arousal"]
    assert 0.85 < low < scores["per_dimension"]["arousal"]["ccc"] < high < 1
    low, high = found["per_dimension"]["valence"]
    assert -0.2 < low < scores["per_dimension"]["valence"]["ccc"] < high < 0.3
