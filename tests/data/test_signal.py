import numpy as np
import pytest
import soxr
from fakes.fake_corpora import prepared, write_emodb
from fakes.speech import speech_like

from ser.data import signal
from ser.data.audio import clip_wave, undecoded
from ser.data.signal import bandwidth_hz, clipped_share, corpus_signal, signal_measures, silent_share, snr_db

RANDOM = np.random.default_rng(0)


def noise(seconds=2.0):
    return RANDOM.standard_normal(int(16_000 * seconds))


def with_noise(wave, db):
    """The wave with white noise of a power `db` below its own."""
    added = noise(len(wave) / 16_000)
    return wave + added * np.sqrt((wave**2).mean() / (added**2).mean() / 10 ** (db / 10))


@pytest.mark.parametrize("db", [0, 10, 20, 30])
def test_noise_added_to_speech_with_pauses_is_measured_to_two_decibels(db):
    speech = np.concatenate([speech_like(1, 2.0), np.full(4000, 1e-6)])
    assert snr_db(with_noise(speech, db)) == pytest.approx(db, abs=2)


def test_zeros_that_no_microphone_records_are_no_pause():
    noisy = with_noise(np.concatenate([speech_like(1, 2.0), np.full(4000, 1e-6)]), 10)
    assert snr_db(np.concatenate([noisy, np.zeros(16_000)])) == pytest.approx(snr_db(noisy), abs=0.1)


def test_a_clip_of_rounding_errors_or_of_zeros_has_a_finite_ratio():
    assert np.isfinite(snr_db(np.zeros(16_000)))
    assert snr_db(np.concatenate([np.ones(15_000), np.full(1000, 1e-9)])) < 110


def test_the_share_of_clipped_samples_is_the_share_of_the_flat_tops():
    wave = 0.9 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    clipped = np.clip(wave, -0.6, 0.6)
    assert clipped_share(wave) == 0
    assert clipped_share(clipped) == pytest.approx((np.abs(wave) >= 0.6).mean(), abs=0.001)
    assert clipped_share(0.3 * clipped) == clipped_share(clipped)


def test_a_clip_that_is_clipped_on_one_side_is_found():
    wave = 0.9 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    assert clipped_share(np.minimum(wave, 0.6)) == pytest.approx((wave >= 0.6).mean(), abs=0.001)


@pytest.mark.parametrize("limit_hz", [2000, 4000, 6000])
def test_the_bandwidth_is_that_of_the_narrowest_rate_a_clip_went_through(limit_hz):
    narrow = soxr.resample(soxr.resample(noise(), 16_000, 2 * limit_hz), 2 * limit_hz, 16_000)
    assert bandwidth_hz(narrow) == pytest.approx(limit_hz, rel=0.06)
    assert bandwidth_hz(noise()) == 8000


def test_one_fricative_is_enough_for_the_full_bandwidth():
    vowel = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    vowel[8000:10_000] += 0.05 * noise(2000 / 16_000)
    assert bandwidth_hz(vowel) > 7800


def test_the_silent_share_is_that_of_the_frames_far_below_the_loudest():
    assert silent_share(np.concatenate([noise(1.0), 1e-4 * noise(1.0)])) == pytest.approx(0.5)
    assert silent_share(noise()) == 0


def test_real_speech_has_no_flat_tops_and_its_whole_band(emodb_dir, tmp_path):
    measures = corpus_signal(prepared(tmp_path, data_dir=emodb_dir, max_clips=12))
    assert measures["clipped_share"].max() == 0
    assert measures["bandwidth_hz"].min() > 7000
    assert 15 < np.median(measures["snr_db"]) < 50


def test_a_corpus_is_measured_in_the_order_of_its_rows_and_only_once(tmp_path, monkeypatch):
    dataset = prepared(tmp_path, data_dir=write_emodb(tmp_path / "source", "03a01Wa", "08a01La", "10a02Na"))
    measures = corpus_signal(dataset)
    for row, clip in enumerate(undecoded(dataset)):
        assert {name: values[row] for name, values in measures.items()} == signal_measures(clip_wave(clip))
    monkeypatch.setattr(signal, "clip_wave", lambda *_: pytest.fail("a clip was measured again"))
    np.testing.assert_array_equal(corpus_signal(dataset)["snr_db"], measures["snr_db"])


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch, caplog):
    dataset = prepared(tmp_path, data_dir=write_emodb(tmp_path / "source", "03a01Wa", "08a01La"))
    real = type(dataset).map

    def refusing(self, *args, keep_in_memory=False, **options):
        if not keep_in_memory:
            raise OSError("Read-only file system")
        return real(self, *args, keep_in_memory=True, **options)

    monkeypatch.setattr(type(dataset), "map", refusing)
    assert len(corpus_signal(dataset)["snr_db"]) == 2
    assert "are not kept: Read-only file system" in caplog.text
