"""Acoustic functionals: right on sounds whose values are known, and computed once."""

import sys

import numpy as np
import pytest
from fakes.fake_corpora import prepared, write_emodb

from ser.experiments import functionals as module
from ser.experiments.functionals import FUNCTIONALS, corpus_functionals, functionals, pitch_track


def harmonics(pitch_hz, seconds=1.0):
    """A buzz: harmonics up to 7.9 kHz, falling by 6 dB an octave."""
    time = np.arange(int(16_000 * seconds)) / 16_000
    partials = [np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, int(7_900 / pitch_hz) + 1)]
    return (0.1 * np.sum(partials, axis=0)).astype(np.float32)


def value(wave, name):
    return functionals(wave)[FUNCTIONALS.index(name)]


@pytest.mark.parametrize("pitch_hz", [80, 137, 220, 330, 450])
def test_the_pitch_of_a_buzz_is_heard_in_its_own_octave(pitch_hz):
    pitch, harmonicity = pitch_track(harmonics(pitch_hz))
    inside = slice(5, -5)
    np.testing.assert_allclose(pitch[inside], pitch_hz, rtol=0.01)
    assert (harmonicity[inside] > 10).all()


def test_noise_and_silence_have_no_pitch():
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    assert (pitch_track(noise)[0] > 0).mean() < 0.2
    assert not pitch_track(np.zeros(16_000))[0].any()


def test_a_hum_below_the_range_of_voices_has_no_pitch():
    assert not pitch_track(0.1 * np.sin(2 * np.pi * 30 * np.arange(16_000) / 16_000))[0][5:-5].any()


def test_the_slope_down_from_no_lag_is_not_taken_for_a_high_voice():
    rumble = np.fft.rfft(np.random.default_rng(0).standard_normal(16_000))
    rumble[150:] = 0
    assert pitch_track(0.01 * np.fft.irfft(rumble))[0].max() < 450


def test_a_vibrato_is_a_wider_range_of_pitch():
    time = np.arange(16_000) / 16_000
    phase = 2 * np.pi * np.cumsum(200 * 2 ** (2 / 12 * np.sin(2 * np.pi * 5 * time))) / 16_000
    steady, moving = value(harmonics(200), "pitch_semitones_range"), value(np.sin(phase) / 5, "pitch_semitones_range")
    assert steady < 0.5
    assert 3 < moving < 5


def test_twice_the_level_is_six_decibels_and_nothing_else():
    names = ("level_db_mean", "pitch_semitones_mean", "centroid_hz_p50", "voiced_share", "mfcc_2_mean")
    soft, loud = ([value(gain * harmonics(150), name) for name in names] for gain in (1, 2))
    assert loud[0] - soft[0] == pytest.approx(6.02, abs=0.01)
    np.testing.assert_allclose(loud[1:], soft[1:], rtol=1e-3)


def test_bursts_are_counted_and_pauses_measured():
    silence = 1e-4 * np.random.default_rng(0).standard_normal(4_000)
    wave = np.concatenate([part for _ in range(4) for part in (harmonics(200, 0.25), silence)])
    assert value(wave, "peaks_per_second") == pytest.approx(2, abs=0.3)
    assert value(wave, "pause_share") == pytest.approx(0.5, abs=0.1)
    assert value(wave, "log_seconds") == pytest.approx(np.log(2))


@pytest.mark.parametrize("wave", [harmonics(100)[:400], np.zeros(400), np.full(1_000, 0.5), np.zeros(16_000)])
def test_odd_clips_have_finite_values_too(wave):
    values = functionals(np.asarray(wave, np.float32))
    assert values.shape == (len(FUNCTIONALS),)
    assert np.isfinite(values).all()


@pytest.mark.slow
def test_a_corpus_is_computed_once_in_any_number_of_processes(tmp_path, monkeypatch):
    dataset = prepared(tmp_path, data_dir=write_emodb(tmp_path / "wav", "03a01Fa", "08a01Wa", "10a01Ta", "11a01Na"))
    first = corpus_functionals(dataset, cache_dir=str(tmp_path / "one"), num_proc=1)
    second = corpus_functionals(dataset, cache_dir=str(tmp_path / "two"), num_proc=2)
    np.testing.assert_array_equal(first, second)
    monkeypatch.setattr(module, "FEATURES", {"plain": None})
    np.testing.assert_array_equal(first, corpus_functionals(dataset, cache_dir=str(tmp_path / "one"), num_proc=1))


def test_other_audio_under_the_same_names_is_computed_again(tmp_path):
    names = ("03a01Fa", "08a01Wa", "10a01Ta")
    first = prepared(tmp_path, data_dir=write_emodb(tmp_path / "a", *names))
    second = prepared(tmp_path, data_dir=write_emodb(tmp_path / "b", *sorted(names), "11a01Na")).select(range(3))
    swapped = prepared(tmp_path, data_dir=write_emodb(tmp_path / "c", *reversed(names)))
    values = [corpus_functionals(d, cache_dir=str(tmp_path), num_proc=1) for d in (first, second, swapped)]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_egemaps_without_opensmile_is_an_error_that_names_its_licence(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ImportError, match=r"licence.*pip install opensmile"):
        module.check_features("egemaps")
    with pytest.raises(ValueError, match="--features: 'mfcc' is not one of plain, egemaps"):
        module.check_features("mfcc")
