"""A threshold keeps its word on speakers it was not chosen on, or is not there."""

import numpy as np
import pandas as pd
import pytest
from fakes.fake_predictions import LABELS, fake_predictions
from scipy.special import expit, logit, softmax

from ser.evaluation import abstention


def clips_of(speakers, clips, ease, seed):
    """Confidence, whether it is right, and speaker of clips of speakers who differ by 0.5 on the logit scale."""
    generator = np.random.default_rng(seed)
    speaker = np.repeat(np.arange(speakers), clips)
    confidence = np.maximum(generator.beta(6, 2, len(speaker)), 0.501)
    chance = expit(logit(confidence) + ease + generator.normal(0, 0.5, speakers)[speaker])
    return confidence, generator.random(len(speaker)) < chance, speaker


def chosen(confidence, right, speaker):
    return abstention.threshold_for_precision(np.stack([confidence, 1 - confidence], 1), (~right).astype(int), speaker)


def true_precision(threshold, ease):
    confidence, right, _ = clips_of(4000, 20, ease, 12345)
    return right[confidence >= threshold].mean()


@pytest.mark.parametrize(("speakers", "clips", "ease"), [(3, 60, 1.5), (10, 30, 0.5), (10, 50, 1.2), (40, 25, -0.3)])
def test_nineteen_thresholds_in_twenty_are_right_nine_times_in_ten(speakers, clips, ease):
    found = [chosen(*clips_of(speakers, clips, ease, seed)) for seed in range(120)]
    kept = [true_precision(threshold, ease) >= 0.9 for threshold in found if threshold is not None]
    assert kept.count(False) <= 0.05 * 120
    if speakers == 10 and ease > 1:
        assert len(kept) > 60


def test_a_model_that_is_seldom_right_gets_none():
    for seed in range(20):
        assert chosen(*clips_of(30, 30, -1.5, seed)) is None


def test_one_or_two_speakers_promise_nothing_of_others():
    right = np.ones(80, bool)
    for speakers in (1, 2):
        assert chosen(np.linspace(0.6, 0.99, 80), right, np.arange(80) % speakers) is None
    assert chosen(np.linspace(0.6, 0.99, 80), right, np.arange(80) % 20) is not None


def test_the_p_value_of_answers_that_are_all_right_still_counts_their_number():
    few, many = (abstention.precision_p_value(np.ones(n, bool), np.arange(n) % 10, 0.9) for n in (20, 200))
    assert many < 0.001 < 0.05 < few


def run(seed, fold, skill, speakers=12, clips=600):
    parts = [fake_predictions(clips, speakers, (seed,), skill, split).assign(fold=fold) for split in ("dev", "test")]
    return pd.concat(parts, ignore_index=True)


def sections(table):
    return abstention.precision_section({part: table[table["split"] == part] for part in ("test", "dev")}, LABELS)


def test_the_figure_of_test_stands_first_with_its_interval():
    section = sections(run(1, 0, 4.0))
    assert next(iter(section)) == "test"
    low, high = section["test"]["interval"]
    assert low <= section["test"]["precision"] <= high
    assert section["confidence"] == 0.95
    assert section["unit"] == "speaker"


def test_every_pooled_run_has_a_threshold_of_its_own_dev():
    easy, hard = run(1, 0, 4.5), run(1, 1, 0.5)
    hard["id"] = "h" + hard["id"]
    section = sections(pd.concat([easy, hard], ignore_index=True))
    by_fold = {of["fold"]: of["threshold"] for of in section["per_run"]}
    assert by_fold[0] == sections(easy)["threshold"]
    assert by_fold[1] is None
    assert section["threshold"] is None
    assert section["test"]["coverage"] == pytest.approx(sections(easy)["test"]["coverage"] / 2)
    assert section["test"]["precision"] == pytest.approx(sections(easy)["test"]["precision"])


def test_clips_of_several_seeds_count_once():
    table = pd.concat([run(seed, 0, 4.5) for seed in (1, 2)], ignore_index=True)
    assert sections(table)["test"]["n"] <= 600


def test_where_no_threshold_is_found_it_says_why():
    assert sections(run(1, 0, 0.0)) == {
        **{"threshold": None, "why": "no threshold reaches it"},
        **{"target": 0.9, "confidence": 0.95, "unit": "speaker"},
    }
    assert "dev has 2 speakers, too few" in sections(run(1, 0, 5.0, speakers=2))["why"]
    without_dev = abstention.precision_section({"test": fake_predictions()}, LABELS)
    assert without_dev == {"threshold": None, "why": "dev was not scored"}


def test_unknown_speakers_make_clips_the_unit_and_the_section_says_so():
    assert sections(run(1, 0, 4.5).assign(speaker=None))["unit"] == "clip"


def test_the_abstain_curve_ends_at_the_accuracy_of_all_clips():
    logits = 2 * np.random.default_rng(0).normal(size=(500, 4))
    truth = (softmax(logits, axis=1).cumsum(axis=1) > np.random.default_rng(1).random((500, 1))).argmax(axis=1)
    curve = abstention.risk_coverage(softmax(logits, axis=1), truth)
    assert len(curve["coverage"]) == 101
    assert curve["coverage"][-1] == 1
    assert curve["accuracy"][-1] == pytest.approx((logits.argmax(axis=1) == truth).mean())
    assert np.all(np.diff(curve["coverage"]) > 0)
    assert np.all(np.diff(curve["threshold"]) < 0)
    assert curve["accuracy"][20] > curve["accuracy"][-1]


def test_clips_of_one_confidence_are_answered_together():
    curve = abstention.risk_coverage(np.tile([0.7, 0.3], (10, 1)), np.array([0, 1] * 5))
    assert curve == {"threshold": [0.7], "coverage": [1.0], "accuracy": [0.5], "n": [10]}
