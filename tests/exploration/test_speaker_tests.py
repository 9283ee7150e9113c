import numpy as np
import pytest
from scipy import stats

from ser.exploration.speaker_tests import (
    FRIEDMAN,
    KRUSKAL,
    WILCOXON,
    compare_over_speakers,
    corrected,
    speaker_means,
    variance_share,
)

RANDOM = np.random.default_rng(0)


def clips(speakers=8, classes=3, each=4, effect=1.0, voice=20.0):
    """Values, speakers and classes of clips: voices differ by `voice`, classes by `effect`."""
    speaker, label = (values.ravel() for values in np.indices((speakers, classes, each))[:2])
    values = voice * RANDOM.standard_normal(speakers)[speaker] + effect * label + RANDOM.standard_normal(len(label))
    return values, [f"s{number}" for number in speaker], label


def means_by_hand(values, speakers, classes):
    names = sorted(set(speakers))
    return np.array(
        [[values[(np.array(speakers) == name) & (classes == c)].mean() for c in sorted(set(classes))] for name in names]
    )


def test_the_test_is_scipys_friedman_on_the_means_of_the_speakers_with_kendalls_w():
    values, speakers, classes = clips()
    found, means = compare_over_speakers(values, speakers, classes, 3), means_by_hand(values, speakers, classes)
    statistic, p = stats.friedmanchisquare(*means.T)
    assert (found.name, found.speakers) == (FRIEDMAN, 8)
    assert (found.p, found.effect) == (pytest.approx(p), pytest.approx(statistic / (8 * 2)))


def test_more_clips_of_the_same_speakers_do_not_make_a_difference_significant():
    values, speakers, classes = clips(speakers=6, effect=0.0, voice=5.0)
    odd = 0.8 * np.random.default_rng(3).standard_normal((6, 3))[[int(name[1:]) for name in speakers], classes]
    many = compare_over_speakers(np.tile(values + odd, 50), speakers * 50, np.tile(classes, 50), 3)
    assert many.p == pytest.approx(compare_over_speakers(values + odd, speakers, classes, 3).p)


def test_high_and_low_voices_do_not_hide_a_difference_that_every_speaker_makes():
    found = compare_over_speakers(*clips(effect=4.0, voice=100.0), 3)
    assert found.effect > 0.9
    assert found.p < 0.01
    assert found.share < 0.1  # between clips it is hidden


def test_two_classes_are_compared_by_wilcoxon():
    values, speakers, classes = clips(classes=2, effect=3.0)
    found, means = compare_over_speakers(values, speakers, classes, 2), means_by_hand(values, speakers, classes)
    expected = stats.wilcoxon(*means.T)
    assert (found.name, found.p) == (WILCOXON, pytest.approx(expected.pvalue))
    ranks = stats.rankdata(np.abs(means[:, 0] - means[:, 1]))
    signed = np.sign(means[:, 0] - means[:, 1])
    assert found.effect == pytest.approx(abs((ranks * signed).sum()) / ranks.sum())


def test_where_few_speakers_have_every_class_all_means_are_compared_by_kruskal():
    values, speakers, classes = clips(speakers=9)
    kept = np.array([int(name[1:]) % 3 != label for name, label in zip(speakers, classes, strict=True)])
    values, classes, speakers = values[kept], classes[kept], [s for s, own in zip(speakers, kept, strict=True) if own]
    found = compare_over_speakers(values, speakers, classes, 3)
    means = speaker_means(values, speakers, classes, 3)
    statistic, p = stats.kruskal(*(column[np.isfinite(column)] for column in means.T))
    assert (found.name, found.p) == (KRUSKAL, pytest.approx(p))
    assert found.effect == pytest.approx(statistic / (18 - 1))


@pytest.mark.parametrize("speakers", [[None] * 24, ["a"] * 12 + ["b"] * 12])
def test_without_five_speakers_there_is_no_test_but_a_share_of_the_variance(speakers):
    values, _, classes = clips(speakers=2)
    found = compare_over_speakers(values, speakers, classes, 3)
    assert found.name is None
    assert np.isnan(found.p)
    assert np.isfinite(found.share)


def test_one_class_cannot_be_compared_and_clips_without_a_value_are_left_out():
    values, speakers, classes = clips()
    assert compare_over_speakers(values, speakers, np.zeros_like(classes), 1).name is None
    hollow = np.where(np.arange(len(values)) % 4 == 0, np.nan, values)
    kept = np.isfinite(hollow)
    means = means_by_hand(hollow[kept], np.array(speakers)[kept].tolist(), classes[kept])
    assert compare_over_speakers(hollow, speakers, classes, 3).p == pytest.approx(stats.friedmanchisquare(*means.T)[1])


def test_a_value_that_never_changes_does_not_differ():
    _, speakers, classes = clips()
    found = compare_over_speakers(np.ones(len(classes)), speakers, classes, 3)
    assert (found.effect, found.p) == (0.0, 1.0)


def test_p_values_are_corrected_by_holm_and_those_without_a_test_do_not_count():
    np.testing.assert_allclose(corrected([0.01, np.nan, 0.04, 0.03]), [0.03, np.nan, 0.06, 0.06])


def test_the_share_of_variance_in_one_dimension_is_epsilon_squared_of_the_analysis_of_variance():
    values, _, classes = clips(voice=0.0)
    f = stats.f_oneway(*(values[classes == c] for c in range(3))).statistic
    n, k = len(values), 3
    epsilon = (k - 1) * (f - 1) / ((k - 1) * f + n - k)
    assert variance_share(values[:, None], classes) == pytest.approx(epsilon)


def test_groups_at_random_share_nothing_whatever_their_number_and_groups_of_equals_everything():
    values = RANDOM.standard_normal((400, 20))
    for count in (2, 80):
        assert abs(variance_share(values, RANDOM.integers(0, count, 400))) < 0.02
    assert variance_share(np.repeat(np.eye(3), 5, axis=0), [0] * 5 + [1] * 5 + [2] * 5) == 1
    assert np.isnan(variance_share(values, ["a"] * 400))
    assert np.isnan(variance_share(values, [None] * 400))
