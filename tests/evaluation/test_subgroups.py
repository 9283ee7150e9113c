"""Who a model fails: planted failures are found, and small groups get wide intervals instead of bold claims."""

import numpy as np
import pandas as pd
import pytest
from fakes.fake_predictions import LABELS, fake_predictions

from ser.evaluation import metrics, subgroups
from ser.evaluation.scored import scored


def flipped(table, rows, confidence=0.97):
    """The table with those rows sure of the class after the true one."""
    wrong = (metrics.label_positions(table["truth"].to_numpy(), LABELS) + 1) % len(LABELS)
    probabilities = np.full((len(table), len(LABELS)), (1 - confidence) / (len(LABELS) - 1))
    probabilities[np.arange(len(table)), wrong] = confidence
    columns = [f"p_{label}" for label in LABELS]
    return table.assign(**{c: np.where(rows, probabilities[:, k], table[c]) for k, c in enumerate(columns)})


def test_a_gender_that_is_failed_shows_in_the_gap_and_in_its_interval():
    table = fake_predictions(600, 40, skill=3.0)
    table = flipped(table, (table["gender"] == "female") & (np.arange(len(table)) % 2 == 0))
    genders = subgroups.gender_scores(table, LABELS)
    assert set(genders) == {"female", "male", "gap"}
    assert genders["gap"]["between"] == ["female", "male"]
    for score in ("uar", "accuracy", "ece"):
        assert genders["gap"][score] == pytest.approx(genders["female"][score] - genders["male"][score])
    assert genders["gap"]["intervals"]["uar"][1] < 0
    assert genders["gap"]["intervals"]["ece"][0] > 0
    assert genders["female"]["speakers"] == 20


def test_two_genders_that_are_served_alike_have_a_gap_around_zero():
    low, high = subgroups.gender_scores(fake_predictions(600, 40), LABELS)["gap"]["intervals"]["uar"]
    assert low < 0 < high


def test_a_score_of_a_group_is_the_score_of_its_rows():
    table = fake_predictions()
    women = table[table["gender"] == "female"]
    expected = metrics.score(women["truth"].to_numpy(), scored(women, LABELS).probabilities, LABELS)
    found = subgroups.gender_scores(table, LABELS)["female"]
    for score in ("uar", "accuracy", "ece", "n"):
        assert found[score] == pytest.approx(expected[score])


def test_no_gender_no_speaker_no_section():
    table = fake_predictions().assign(gender=None, speaker=None)
    assert subgroups.gender_scores(table, LABELS) == {}
    assert subgroups.speaker_scores(table, LABELS) == {}


def test_one_gender_has_scores_and_no_gap():
    table = fake_predictions().assign(gender="male")
    assert set(subgroups.gender_scores(table, LABELS)) == {"male"}


def test_a_gender_of_one_speaker_says_that_its_interval_is_over_clips():
    table = fake_predictions()
    table["gender"] = np.where(table["speaker"] == "S00", "female", "male")
    genders = subgroups.gender_scores(table, LABELS)
    assert genders["female"]["interval_unit"] == "clip"
    assert genders["male"]["interval_unit"] == "speaker"


def test_a_gap_is_never_an_interval_over_clips_less_one_over_speakers():
    table = fake_predictions()
    for women in (table["speaker"] == "S00", table["speaker"] != "S00"):
        gap = subgroups.gender_scores(table.assign(gender=np.where(women, "female", "male")), LABELS)["gap"]
        assert gap["interval_unit"] is None
        assert set(gap["intervals"].values()) == {None}
        assert gap["uar"] is not None
    two = table[table["speaker"].isin(["S00", "S01"])]
    voices = two.assign(gender=np.where(two["speaker"] == "S00", "female", "male"))
    assert subgroups.gender_scores(voices, LABELS)["gap"]["interval_unit"] is None
    nameless = subgroups.gender_scores(table.assign(speaker=None), LABELS)["gap"]
    assert nameless["interval_unit"] == "clip"
    assert nameless["intervals"]["uar"][0] < nameless["uar"] < nameless["intervals"]["uar"][1]


def test_the_speaker_that_is_failed_is_named_first():
    table = fake_predictions(skill=4.0)
    speakers = subgroups.speaker_scores(flipped(table, table["speaker"] == "S07"), LABELS)
    assert speakers["worst"][0] == "S07"
    assert len(speakers["worst"]) == 5
    assert speakers["per_speaker"]["S07"]["uar"] == 0
    assert speakers["per_speaker"]["S07"]["gender"] == "male"


def test_a_speaker_of_three_clips_is_not_called_worst():
    table = fake_predictions(skill=4.0)
    few = table["speaker"].eq("S03") & (table.groupby("speaker").cumcount() >= 3)
    table = table[~few].reset_index(drop=True)
    speakers = subgroups.speaker_scores(flipped(table, table["speaker"] == "S03"), LABELS)
    assert speakers["per_speaker"]["S03"]["n"] == 3
    assert "S03" not in speakers["worst"]
    low, high = speakers["per_speaker"]["S03"]["intervals"]["uar"]
    assert low == 0
    assert high > 0.4


def test_intervals_of_every_speaker_hold_the_score():
    for entry in subgroups.speaker_scores(fake_predictions(seeds=(1, 2)), LABELS)["per_speaker"].values():
        for score in ("uar", "accuracy", "ece"):
            low, high = entry["intervals"][score]
            assert 0 <= low <= entry[score] <= high <= 1


def test_the_surest_mistake_comes_first_and_right_clips_never():
    table = flipped(fake_predictions(), np.arange(300) == 42, confidence=0.999)
    clips = subgroups.worst_clips(table, LABELS)
    assert clips[0]["id"] == "test0042"
    assert clips[0]["confidence"] == pytest.approx(0.999)
    assert clips[0]["p_truth"] < 0.001
    assert len(clips) == 20
    assert all(clip["truth"] != clip["predicted"] for clip in clips)
    assert [clip["confidence"] for clip in clips] == sorted((clip["confidence"] for clip in clips), reverse=True)


def test_a_clip_counts_once_over_seeds_and_unknown_speakers_are_null():
    clips = subgroups.worst_clips(fake_predictions(seeds=(1, 2, 3)).assign(speaker=None), LABELS)
    assert len({clip["id"] for clip in clips}) == 20
    assert clips[0]["speaker"] is None


def test_a_clip_is_as_sure_as_its_mean_over_seeds():
    table = fake_predictions(seeds=(1, 2))
    clip = subgroups.worst_clips(table, LABELS)[0]
    assert clip["confidence"] == pytest.approx(table.loc[table["id"] == clip["id"], f"p_{clip['predicted']}"].mean())


def test_a_model_without_mistakes_has_no_worst_clips():
    assert subgroups.worst_clips(fake_predictions(skill=50.0), LABELS) == []


def test_the_calibration_error_over_seeds_is_the_mean_of_each():
    tables = [fake_predictions(seeds=(seed,)) for seed in (1, 2)]
    both = subgroups.calibration_spread(scored(pd.concat(tables, ignore_index=True), LABELS)).value
    assert both == pytest.approx(np.mean([subgroups.calibration_spread(scored(t, LABELS)).value for t in tables]))
