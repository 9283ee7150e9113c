"""Corruptions: each does what its name says, by measurement, and the same each time."""

import numpy as np
import pytest

from ser.experiments.conditions import CONDITIONS, Condition
from ser.experiments.corruptions import (
    Corruptor,
    achieved_kbit_per_second,
    clipping,
    gain,
    impulse_response,
    mean_spectrum,
    noise,
    reverberation,
    speed,
    telephone,
)

BY_NAME = pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)


def speech(seed=0, seconds=1.2):
    """A buzz with noise that comes in bursts, about as loud as speech."""
    generator, time = np.random.default_rng(seed), np.arange(int(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 40))
    bursts = np.clip(np.sin(2 * np.pi * 3 * time), 0.02, None)
    return (0.1 * bursts * (buzz + 0.1 * generator.standard_normal(len(time)))).astype(np.float32)


def corruptor():
    return Corruptor(mean_spectrum(speech(seed) for seed in range(3)))


def decibel(ratio):
    return 10 * np.log10(ratio)


def band_power(wave, low_hz, high_hz):
    power, hz = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / 16_000)
    return power[(hz >= low_hz) & (hz < high_hz)].sum()


@BY_NAME
def test_a_clip_sounds_the_same_each_time_and_every_condition_changes_it(condition):
    wave = speech()
    first, second = (corruptor()(wave, condition, "clip") for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert len(first) != len(wave) or not np.array_equal(first, wave)


@BY_NAME
def test_the_wave_that_came_in_stays_as_it_was(condition):
    wave = speech()
    before = wave.copy()
    corruptor()(wave, condition, "clip")
    np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize("condition", [c for c in CONDITIONS if c.kind != "speed"], ids=lambda c: c.name)
@pytest.mark.parametrize("length", [400, 16_001, 19_999])
def test_length_and_place_are_kept(condition, length):
    wave = speech(seconds=2)[:length]
    changed = corruptor()(wave, condition, "clip")
    assert len(changed) == length
    if length > 400 and condition.kind != "reverberation":
        shifts = range(-200, 201)
        likeness = [np.dot(wave[300:-300], np.roll(changed, -shift)[300:-300]) for shift in shifts]
        assert abs(shifts[int(np.argmax(likeness))]) <= 2


@pytest.mark.parametrize("kind", ["noise", "reverberation"])
def test_every_clip_has_noise_and_a_room_of_its_own(kind):
    condition = next(condition for condition in CONDITIONS if condition.kind == kind)
    first, second = (corruptor()(speech(), condition, name) for name in ("one", "other"))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0])
@pytest.mark.parametrize("length", [401, 16_000, 19_997])
def test_the_ratio_of_speech_to_noise_is_the_one_asked_for(snr_db, length):
    wave = speech(seconds=2)[:length]
    noisy = noise(wave, snr_db, mean_spectrum([wave]), np.random.default_rng(0))
    measured = decibel((wave.astype(float) ** 2).mean() / ((noisy - wave) ** 2).mean())
    assert measured == pytest.approx(snr_db, abs=0.01)


def test_a_clip_keeps_its_noise_at_every_level():
    wave = speech()
    quiet, loud = (corruptor()(wave, Condition("n", "noise", {"snr_db": snr}), "clip") - wave for snr in (20.0, 0.0))
    np.testing.assert_allclose(loud, 10 * quiet, atol=1e-5)


def test_the_noise_has_the_spectrum_of_the_corpus():
    waves = [speech(seed, seconds=4) for seed in range(3)]
    spectrum = mean_spectrum(waves)
    drawn = noise(1e-6 * waves[0], -60.0, spectrum, np.random.default_rng(0))
    bands = [(0, 500), (500, 1_000), (1_000, 2_000), (2_000, 4_000), (4_000, 8_000)]
    levels = [decibel([band_power(wave, *band) for band in bands]) for wave in (drawn, np.concatenate(waves))]
    shapes = [level - level.max() for level in levels]
    np.testing.assert_allclose(shapes[0], shapes[1], atol=1.5)


def test_gain_is_decibels_and_clips_at_full_scale():
    wave = speech()
    np.testing.assert_allclose(gain(wave, -12.0), wave * 0.251189, rtol=1e-4)
    loud = gain(0.9 * wave / np.abs(wave).max(), 12.0)
    assert np.abs(loud).max() == 1
    assert (np.abs(loud) == 1).sum() > 10


def test_a_telephone_passes_its_band_and_nothing_else():
    wave = (0.1 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    changed = telephone(wave, 300.0, 3_400.0)
    assert decibel(band_power(changed, 400, 3_300) / band_power(wave, 400, 3_300)) == pytest.approx(0, abs=0.2)
    for low, high in ((0, 200), (3_700, 4_000), (4_200, 8_000)):
        assert decibel(band_power(changed, low, high) / band_power(wave, low, high)) < -30


def test_a_telephone_has_the_noise_of_eight_bits_at_any_level():
    time = np.arange(32_000) / 16_000
    tone = np.sin(2 * np.pi * 1_000 * time)
    for amplitude in (0.5, 0.05):
        changed = telephone((amplitude * tone).astype(np.float32), 300.0, 3_400.0)[4_000:-4_000]
        signal, rest = band_power(changed, 950, 1_050), band_power(changed, 0, 900) + band_power(changed, 1_100, 8_000)
        # mu-law holds 30 to 40 dB whatever the level; 8 linear bits would lose 20 dB between the two.
        assert 28 < decibel(signal / rest) < 45


def test_codecs_are_near_their_rates_on_a_long_clip_and_worse_at_the_lower():
    waves = [speech(seconds=8)]
    for kind in ("mp3", "opus"):
        coded = sorted((c for c in CONDITIONS if c.kind == kind), key=lambda c: c.parameters["kbit_per_second"])
        rates = [achieved_kbit_per_second(waves, condition) for condition in coded]
        for rate, condition in zip(rates, coded, strict=True):
            assert rate == pytest.approx(condition.parameters["kbit_per_second"], rel=0.5)
        errors = [np.mean((corruptor()(waves[0], condition, "clip") - waves[0]) ** 2) for condition in coded]
        assert rates[0] < rates[1]
        assert errors[0] > errors[1]
    assert achieved_kbit_per_second(waves, CONDITIONS[0]) is None


def test_a_rate_that_a_codec_lacks_is_refused():
    with pytest.raises(ValueError, match=r"kbit_per_second: 4.0 is outside 6 to 256"):
        corruptor()(speech(), Condition("Opus", "opus", {"kbit_per_second": 4.0}), "clip")


@pytest.mark.parametrize("rt60_seconds", [0.4, 1.2])
def test_a_room_decays_by_sixty_decibels_in_its_time(rt60_seconds):
    response = impulse_response(rt60_seconds, 0.0, np.random.default_rng(0))
    tail = response[1:] ** 2
    remaining = decibel(np.cumsum(tail[::-1])[::-1] / tail.sum())  # Schroeder's integral
    falls = [np.argmax(remaining < level) / 16_000 for level in (-5, -35)]
    assert 2 * (falls[1] - falls[0]) == pytest.approx(rt60_seconds, rel=0.1)
    assert decibel(response[0] ** 2 / tail.sum()) == pytest.approx(0, abs=1e-6)


def test_a_room_keeps_the_level():
    wave = speech().astype(np.float64)
    wet = reverberation(wave, 0.4, 3.0, np.random.default_rng(0))
    assert (wet**2).mean() == pytest.approx((wave**2).mean())


def test_clipping_holds_the_asked_share_of_samples():
    changed = clipping(speech(), 0.1)
    assert (np.abs(changed) == np.abs(changed).max()).mean() == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_moves_length_and_pitch_together(factor):
    time = np.arange(32_000) / 16_000
    played = speed(np.sin(2 * np.pi * 500 * time).astype(np.float32), factor)
    assert len(played) == pytest.approx(32_000 / factor, abs=1)
    hz = np.fft.rfftfreq(len(played), 1 / 16_000)
    assert hz[np.abs(np.fft.rfft(played * np.hanning(len(played)))).argmax()] == pytest.approx(500 * factor, abs=1)


def test_the_shortest_clip_still_makes_a_frame_when_played_faster():
    assert len(speed(speech()[:400], 1.1)) == 400


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="condition 'wind': 'wind' is not one of noise, gain"):
        corruptor()(speech(), Condition("wind", "wind"), "clip")


def test_no_clip_has_no_spectrum():
    with pytest.raises(ValueError, match="no clip"):
        mean_spectrum([])
