"""Scores of each corpus: the same as those of its clips alone, in the results, the report and the card."""

import pandas as pd
import pytest
from fakes.fake_predictions import LABELS, fake_predictions, fake_regression
from fakes.fake_run import write_run

from ser.evaluation.report import write_report
from ser.evaluation.results import build_results
from ser.publish.card import check_card, make_card

CONTEXT = {"protocol": {"name": "leave_one_corpus_out", "speaker_independent": True, "num_folds": 2}}


def two_corpora(seeds=(1,)) -> pd.DataFrame:
    """Speakers of one table in two corpora; the second has no fear."""
    table = fake_predictions(clips=240, seeds=seeds)
    table["corpus"] = ["emodb" if int(speaker[1:]) < 6 else "tess" for speaker in table["speaker"]]
    return table[(table["corpus"] == "emodb") | (table["truth"] != "fear")]


def test_a_corpus_has_the_scores_of_its_clips_alone():
    table = two_corpora(seeds=(1, 2))
    found = build_results(table, LABELS, CONTEXT)["corpora"]
    assert list(found) == ["emodb", "tess"]
    for name, of in found.items():
        alone = build_results(table[table["corpus"] == name], LABELS, CONTEXT)["test"]
        for score in ("uar", "accuracy", "macro_f1"):
            assert of[score] == pytest.approx(alone[score])
            assert of["intervals"][score] == pytest.approx(alone["intervals"][score])
        assert of["n"] == alone["n"]
        assert of["speakers"] == 6


def test_a_corpus_without_a_class_is_scored_on_those_it_has_and_says_so():
    found = build_results(two_corpora(), LABELS, CONTEXT)["corpora"]
    assert found["emodb"]["lacks"] == []
    assert found["tess"]["lacks"] == ["fear"]
    per_class = build_results(two_corpora().query("corpus == 'tess'"), LABELS, CONTEXT)["test"]["per_class"]
    recalls = [of["recall"] for of in per_class.values() if of["support"]]
    assert found["tess"]["uar"] == pytest.approx(sum(recalls) / 3)


def test_one_corpus_and_older_predictions_have_no_such_section():
    assert "corpora" not in build_results(fake_predictions(), LABELS, CONTEXT)
    assert "corpora" not in build_results(fake_predictions().assign(corpus="emodb"), LABELS, CONTEXT)


def test_corpora_whose_speakers_are_unknown_get_intervals_over_clips():
    table = two_corpora()
    table.loc[table["corpus"] == "tess", "speaker"] = None
    found = build_results(table, LABELS, CONTEXT)["corpora"]
    assert found["tess"]["speakers"] is None
    assert found["tess"]["interval_unit"] == "clip"
    assert found["emodb"]["interval_unit"] == "speaker"


def test_dimensions_are_scored_in_each_corpus_too():
    table = fake_regression()
    table["corpus"] = ["a" if int(speaker[1:]) < 5 else "b" for speaker in table["speaker"]]
    found = build_results(table, ["arousal", "valence"], CONTEXT)["corpora"]
    assert set(found["a"]) >= {"ccc", "n", "intervals"}
    assert found["a"]["intervals"]["ccc"] is not None


def test_report_and_card_show_a_line_for_each_corpus(tmp_path):
    run = write_run(tmp_path / "run", two_corpora(), LABELS, CONTEXT)
    page = write_report(run).read_text()
    assert ">Each corpus</h2>" in page
    assert "<bdi>tess</bdi>" in page
    results = build_results(two_corpora(), LABELS, CONTEXT)
    card = str(make_card(results))
    check_card(card, results)
    row = next(line for line in card.splitlines() if line.startswith("| tess"))
    assert "| fear |" in row
    assert f"{results['corpora']['tess']['uar']:.3f} [" in row
    plain = build_results(fake_predictions(), LABELS, CONTEXT)
    assert "Each corpus by itself" not in str(make_card(plain))
