"""Two runs are paired clip by clip, or refused with the difference by name; speakers are the unit of chance."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from fakes.fake_predictions import fake_predictions
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation import metrics
from ser.evaluation.compare import compare, leak_gap, permutation_p_value, smallest_p_value


def test_a_run_against_itself_differs_by_nothing():
    run = fake_predictions(seeds=(1, 2))
    for score in ("uar", "accuracy", "macro_f1"):
        result = compare(run, run)[score]
        assert result["difference"] == 0
        assert result["interval"][0] == -result["interval"][1]
        assert 0 < result["interval"][1] < 0.03  # what 300 clips of four classes can tell
        assert result["p_value"] == 1


def test_a_better_run_is_told_from_a_worse_one():
    result = compare(fake_predictions(skill=3.0), fake_predictions(skill=0.5))
    assert result["uar"]["p_value"] < 0.01
    assert 0 < result["uar"]["interval"][0] < result["uar"]["difference"] < result["uar"]["interval"][1]
    assert result["clips"] == 300
    assert result["clusters"] == 12
    assert result["interval_unit"] == "speaker"


def test_exchanging_the_runs_turns_the_sign_alone():
    a, b = fake_predictions(skill=1.5), fake_predictions(skill=1.0)
    forth, back = compare(a, b)["uar"], compare(b, a)["uar"]
    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["interval"] == pytest.approx([-end for end in reversed(back["interval"])], abs=0.01)
    assert forth["p_value"] == pytest.approx(back["p_value"], abs=0.02)


def test_two_runs_of_one_skill_are_rarely_told_apart():
    generator, p_values = np.random.default_rng(0), []
    for _ in range(200):
        ease = generator.beta(4, 2, size=(12, 1, 1, 2))
        hits = generator.binomial(97, np.broadcast_to(ease, (12, 2, 1, 2)))
        confusions = hits[..., None] * np.eye(2, dtype=int) + (97 - hits[..., None]) * np.eye(2, dtype=int)[::-1]
        p_values.append(permutation_p_value(confusions, metrics.uar, permutations=199))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_a_speaker_is_swapped_as_one_however_many_clips():
    confusions = np.zeros((3, 2, 1, 2, 2), int)
    confusions[:, 0, 0, [0, 1], [0, 1]] = 1000
    confusions[:, 1, 0, [0, 1], [1, 0]] = 1000
    assert permutation_p_value(confusions, metrics.uar) == 2 / 2**3


def test_a_p_value_is_never_zero():
    confusions = np.zeros((40, 2, 1, 2, 2), int)
    confusions[:, 0, 0, [0, 1], [0, 1]] = 9
    confusions[:, 1, 0, [0, 1], [1, 0]] = 9
    assert permutation_p_value(confusions, metrics.uar, permutations=99) == 0.01


def test_the_smallest_p_says_what_few_speakers_can_show():
    few = compare(fake_predictions(speakers=3, skill=6.0), fake_predictions(speakers=3, skill=-6.0))
    assert few["smallest_p"] == 0.25
    assert few["uar"]["p_value"] == 0.25
    assert few["permutations"] == 8


@pytest.mark.parametrize("speakers", [1, 2, 5, 11, 13, 14, 15, 16])
def test_no_p_is_below_the_smallest_possible_one(speakers):
    confusions = np.zeros((speakers + 3, 2, 1, 2, 2), int)
    confusions[:, :, 0, 0, 0] = 5  # three speakers of whom both runs say the same: swapping them does nothing
    confusions[:speakers, 1, 0, 0] = [3, 2]
    confusions[:speakers, 0, 0, 1, 1] = np.arange(1, speakers + 1)
    confusions[:speakers, 1, 0, 1, 0] = np.arange(1, speakers + 1)
    assert smallest_p_value(confusions) == max(2.0 ** (1 - speakers), 1e-4)
    for seed in range(3):
        assert permutation_p_value(confusions, metrics.uar, seed=seed) >= smallest_p_value(confusions)


def test_all_swaps_counted_equal_all_swaps_made_one_by_one():
    from itertools import product

    confusions = np.random.default_rng(0).integers(6, size=(6, 2, 3, 3, 3))
    gaps = []
    for swapped in product([False, True], repeat=6):
        sides = np.where(np.array(swapped)[:, None, None, None, None], confusions[:, ::-1], confusions).sum(axis=0)
        gaps.append(abs(metrics.uar(sides[0]).mean() - metrics.uar(sides[1]).mean()))
    expected = np.mean(np.array(gaps) >= gaps[0] - 1e-12)
    assert permutation_p_value(confusions, metrics.uar) == pytest.approx(expected)


def alike(speakers, right):
    """Ten clips a speaker, of two classes, as many of them right with every speaker."""
    table = fake_predictions(clips=10 * speakers, speakers=speakers).sort_values("id", ignore_index=True)
    place = np.arange(len(table))
    truth = np.where(place % 2, "anger", "neutral")
    said = np.where(place // 2 % 5 < right, truth, np.where(place % 2, "neutral", "anger"))
    names = [column for column in table if column.startswith("p_")]
    sure = {name: np.where(said == name[2:], 0.9, 0.1 / 3) for name in names}
    return table.assign(speaker=[f"S{clip // 10:02d}" for clip in place], fold=0, truth=truth, **sure)


def test_speakers_who_gain_alike_do_not_make_a_difference_certain():
    low, high = compare(alike(10, 5), alike(10, 4))["uar"]["interval"]
    assert low < 0.15 < 0.2 < 0.25 < high
    assert low > 0.1


def test_a_run_of_three_seeds_meets_a_baseline_of_one():
    result = compare(fake_predictions(seeds=(1, 2, 3)), fake_predictions(seeds=(7,), skill=0.5))
    each = [compare(fake_predictions(seeds=(s,)), fake_predictions(seeds=(7,), skill=0.5)) for s in (1, 2, 3)]
    assert result["uar"]["difference"] == pytest.approx(np.mean([one["uar"]["difference"] for one in each]))
    assert result["clips"] == 300


def test_rows_of_dev_and_their_order_do_not_matter():
    import pandas as pd

    a, b = fake_predictions(), fake_predictions(skill=1.0)
    shuffled = pd.concat([b, fake_predictions(split="dev")]).sample(frac=1, random_state=0)
    assert compare(a, shuffled)["uar"]["difference"] == pytest.approx(compare(a, b)["uar"]["difference"])


def test_without_speakers_clips_are_the_unit_and_the_result_says_so():
    a, b = (fake_predictions(skill=skill).assign(speaker=None) for skill in (1.5, 1.0))
    result = compare(a, b)
    assert result["interval_unit"] == "clip"
    assert result["clusters"] == 300


def test_one_unknown_speaker_makes_clips_the_unit():
    run = changed("speaker", None)
    assert compare(run, run)["interval_unit"] == "clip"


def changed(column, value):
    table = fake_predictions()
    table.loc[0, column] = value
    return table


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: fake_predictions().iloc[1:], "1 only in the first, 0 only in the second, such as 'test0000'"),
        (lambda: changed("id", "new"), "1 only in the first, 1 only in the second"),
        (lambda: changed("truth", "fear"), "differ in the truth of 1 clips: 'test0000'"),
        (lambda: changed("speaker", None), "differ in the speaker of 1 clips"),
        (lambda: changed("fold", 9), "differ in the fold of 1 clips.*9"),
        (lambda: fake_predictions().drop(columns="p_fear"), "expected the same classes"),
        (lambda: fake_predictions(split="dev"), "run B has no prediction on test"),
        (lambda: fake_predictions(seeds=(1, 1)), "more than once under seed 1"),
        (lambda: fake_predictions(seeds=(1, 2)).iloc[:-1], "expected the same clips under each"),
        (lambda: fake_predictions().drop(columns="truth"), "classification"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_by_name(other, says):
    table = fake_predictions()
    if says.startswith("differ in the truth"):
        table.loc[0, "truth"] = "anger"
    with pytest.raises(ValueError, match=says):
        compare(table, other())


def test_runs_on_two_corpora_that_share_names_are_refused():
    one = fake_predictions()
    other = one.assign(duration=one["duration"] + np.where(one["id"] == "test0003", 1.5, 0.0))
    with pytest.raises(ValueError, match=r"1 clips another length: 'test0003' has 3.000 s in the first and 4.500 s"):
        compare(one, other)
    compare(one, one.assign(duration=one["duration"] + 0.001))


def test_the_command_prints_both_scores_and_their_difference(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b.parquet"
    a.mkdir()
    fake_predictions(skill=3.0, speakers=5).to_parquet(a / "predictions.parquet")
    fake_predictions(skill=1.0, speakers=5).to_parquet(b)
    found = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert found.exit_code == 0
    assert re.search(r"UAR +0\.\d{3} +0\.\d{3} +\+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\] +p = 0\.0", found.output)
    assert "300 clips; 5 speakers" in found.output
    assert "The smallest p of so many speakers is 0.0625" in found.output
    as_json = CliRunner().invoke(app, ["compare", str(a), str(b), "--json"])
    assert json.loads(as_json.output)["uar"]["difference"] > 0


def test_the_command_says_in_one_line_why_runs_cannot_be_compared(tmp_path):
    fake_predictions().to_parquet(tmp_path / "a.parquet")
    fake_predictions().assign(fold=0).to_parquet(tmp_path / "b.parquet")
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    found = CliRunner().invoke(app, ["compare", *paths])
    assert found.exit_code == 2
    assert "differ in the fold" in found.output
    assert CliRunner().invoke(app, ["compare", *paths, "--other-folds"]).exit_code == 0
    missing = CliRunner().invoke(app, ["compare", str(tmp_path / "none"), paths[1]])
    assert missing.exit_code == 2
    assert "finished run" in missing.output


def test_the_gap_of_a_leak_pairs_clips_across_other_folds():
    honest, leaking = fake_predictions(skill=1.0), fake_predictions(skill=2.5)
    leaking["fold"] = np.arange(len(leaking)) % 5
    gap = leak_gap(honest, leaking)
    assert gap["uar"]["difference"] > 0
    assert gap["uar"]["interval"][0] < gap["uar"]["difference"] < gap["uar"]["interval"][1]
    with pytest.raises(ValueError, match="test other clips"):
        leak_gap(honest, leaking[leaking["fold"] == 0])


def test_two_seeds_of_one_run_are_compared_by_their_folders(tmp_path):
    table = fake_predictions()
    for seed in (1, 2):
        for fold in (0, 1):
            folder = tmp_path / f"seed-{seed}" / f"fold-{fold}"
            folder.mkdir(parents=True)
            rows = table[pd.factorize(table["speaker"])[0] % 2 == fold].assign(seed=seed, fold=fold)
            rows.to_parquet(folder / "predictions.parquet", index=False)
    answer = CliRunner().invoke(app, ["compare", str(tmp_path / "seed-1"), str(tmp_path / "seed-2"), "--json"])
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["clips"] == table["id"].nunique()
    assert found["uar"]["difference"] == 0
