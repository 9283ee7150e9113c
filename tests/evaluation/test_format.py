import doctest

import pytest

from ser.evaluation import format as words


def test_the_examples_hold():
    assert doctest.testmod(words).failed == 0


def test_what_is_unknown_reads_as_such():
    assert words.format_number(None) == words.format_number(float("nan")) == "n/a"
    assert words.format_interval(0.5, [None, 0.7]) == "0.500 [n/a, 0.700]"
    assert words.format_interval(0.5) == "0.500"
    assert words.format_p(None) == "p n/a"


def test_a_difference_that_rounds_to_zero_has_no_sign():
    assert words.format_signed(-0.0001) == words.format_signed(0.0001) == words.format_number(-0.0) == "0.000"


def test_a_loss_has_a_minus_sign_and_a_gain_a_plus():
    assert words.format_difference(-0.04, [-0.1, 0.02]) == "\u22120.040 [\u22120.100, +0.020]"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.44, "3.4 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (3900, "1 h 5 min"), (None, "n/a")]
)
def test_time_is_told_in_two_units(seconds, text):
    assert words.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ({"name": "speaker_kfold", "speaker_independent": True, "num_folds": 5}, "speaker-independent 5-fold"),
        (
            {"name": "speaker_kfold", "speaker_independent": True, "num_folds": 5, "folds": [0]},
            "speaker-independent 5-fold (fold 0 only)",
        ),
        (
            {"name": "random_kfold", "speaker_independent": False, "num_folds": 3, "folds": [0, 1, 2], "seeds": [1, 2]},
            "speaker-dependent random 3-fold (seeds 1, 2)",
        ),
        (
            {"name": "random_holdout", "speaker_independent": False, "num_folds": 5, "folds": [0]},
            "speaker-dependent random 80/20 hold-out",
        ),
        ({"name": "one of my own", "speaker_independent": True}, "speaker-independent one of my own"),
        ({}, "unknown protocol"),
    ],
)
def test_a_protocol_is_named_with_what_it_lets_through(protocol, text):
    assert words.protocol_words(protocol) == text


def test_the_headline_names_score_interval_protocol_and_labels():
    results = {
        "task": "classification",
        "test": {"uar": 0.6226, "intervals": {"uar": [0.5806, 0.6641]}},
        "protocol": {"name": "speaker_kfold", "speaker_independent": True, "num_folds": 5, "folds": [0, 1, 2, 3, 4]},
        "label_source": "modified",
    }
    assert words.headline(results) == "UAR 0.623 [0.581, 0.664], speaker-independent 5-fold, labels: modified"


def test_dev_scores_never_pass_for_test_scores():
    assert words.headline({"task": "classification", "dev": {"uar": 0.7}}).startswith("dev UAR 0.700")


@pytest.mark.parametrize(
    ("interval", "beats"), [([0.001, 0.08], True), ([0.0, 0.08], False), ([-0.01, 0.1], False), (None, False)]
)
def test_a_baseline_is_beaten_only_when_the_whole_interval_says_so(interval, beats):
    verdict = words.verdict_of(
        {"baseline": {"name": "svm", "uar": 0.6, "difference": {"uar": 0.04, "interval": interval, "p": 0.03}}}
    )
    assert verdict.beats is beats
    assert ("does not beat" in verdict.text) is not beats


def test_no_baseline_gives_no_verdict():
    assert words.verdict_of({}) is None


@pytest.mark.parametrize(("interval", "p"), [([0.2, 0.2], 0.503), ([-0.001, 0.2], 0.03), ([0.1, 0.3], None)])
def test_no_verdict_says_beats_unless_interval_and_test_agree(interval, p):
    verdict = words.verdict_of({"baseline": {"difference": {"uar": 0.2, "interval": interval, "p": p}}})
    assert not verdict.beats
    assert "does not beat" in verdict.text
    assert ("disagree" in verdict.text) is (p is not None)
