import numpy as np
import pytest
from fakes.fake_corpora import prepared

from ser.experiments.functionals import FUNCTIONALS, corpus_functionals, pitch_track
from ser.exploration.voices import VOICES, corpus_voices, jitter, spectral_slope, voice_quality


def pulses(pitch_hz, deviation=0.0, seconds=2.0, seed=0):
    """A decaying resonance struck at each period, and the lengths of the periods in samples."""
    periods = 16_000 / pitch_hz * (1 + deviation * np.random.default_rng(seed).standard_normal(int(pitch_hz * seconds)))
    starts = np.cumsum(periods)
    wave = np.zeros(int(starts[-1]) + 500)
    for start in starts:
        samples = np.arange(int(np.ceil(start)), int(start) + 400)
        time = (samples - start) / 16_000
        wave[samples] += np.exp(-500 * time) * np.sin(2 * np.pi * 700 * time)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32), periods


@pytest.mark.parametrize("pitch_hz", [100, 200])
@pytest.mark.parametrize("deviation", [0.0, 0.01, 0.02])
def test_jitter_is_the_mean_difference_of_neighbouring_periods_over_their_mean(pitch_hz, deviation):
    wave, periods = pulses(pitch_hz, deviation)
    pitch, _ = pitch_track(wave)
    expected = np.abs(np.diff(periods)).mean() / periods.mean()
    assert jitter(wave, pitch) == pytest.approx(expected, rel=0.2, abs=0.0005)


@pytest.mark.parametrize(("slope", "power"), [(0.0, 0.0), (-3.01, 0.5), (-6.02, 1.0)])
def test_the_slope_of_noise_is_the_power_by_which_its_amplitude_falls_with_frequency_times_six_decibels(slope, power):
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(64_000))
    hz = np.maximum(np.fft.rfftfreq(64_000, 1 / 16_000), 60)
    wave = np.fft.irfft(spectrum / hz**power)
    assert spectral_slope(wave, np.full(400, 100.0)) == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("wave", [np.zeros(400), 0.1 * np.random.default_rng(0).standard_normal(16_000)])
def test_a_clip_without_a_voice_has_neither(wave):
    assert np.isnan(list(voice_quality(wave.astype(np.float32)).values())).all()


def test_the_six_functionals_are_finite_on_speech_and_those_of_the_baseline(emodb_dir, tmp_path):
    dataset = prepared(tmp_path, data_dir=emodb_dir, max_clips=12)
    found = corpus_voices(dataset, str(tmp_path))
    assert list(found) == list(VOICES)
    assert all(np.isfinite(values).all() and len(values) == 12 for values in found.values())
    known = dict(zip(FUNCTIONALS, corpus_functionals(dataset, cache_dir=str(tmp_path), num_proc=1).T, strict=True))
    np.testing.assert_allclose(12 * np.log2(found["pitch"] / 27.5), known["pitch_semitones_p50"])
    np.testing.assert_array_equal(found["rate"], known["peaks_per_second"])
    assert 0.5 < np.median(found["jitter"]) < 6
