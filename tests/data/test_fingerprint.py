"""Fingerprints: a copy is found whatever was done to its level, rate or codec, and nothing else is."""

import io

import numpy as np
import pytest
import soundfile
import soxr
from fakes.speech import RATE_HZ, speech_like

from ser.data.fingerprint import fingerprint, near_copies, recording_hash
from ser_model import read_wave


def through(form: str, gain: float = 1.0, rate_hz: int = RATE_HZ, **options):
    def change(wave: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        soundfile.write(file, gain * soxr.resample(wave, RATE_HZ, rate_hz), rate_hz, format=form, **options)
        return read_wave(file.getvalue())

    return change


COPIES = {
    "level": through("WAV", 0.5),
    "8 kHz": through("WAV", 1.0, 8_000),
    "44.1 kHz": through("FLAC", 1.0, 44_100),
    "MP3": through("MP3", 0.5),
    "MP3 at its lowest rate": through("MP3", 0.5, compression_level=0.99),
    "Vorbis": through("OGG", 0.5),
    "cut at both ends": lambda wave: wave[4_321:-3_210],
    "silence before it": lambda wave: np.concatenate([np.zeros(7_777, np.float32), wave]),
}


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    return [speech_like(seed) for seed in range(8)]


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_no_other(waves, name):
    prints = [fingerprint(wave) for wave in waves]
    copies = [fingerprint(COPIES[name](wave)) for wave in waves]
    found = near_copies([*prints, *copies], [0] * len(prints) + [1] * len(copies))
    assert {pair[:2] for pair in found} == {(number, number + len(waves)) for number in range(len(waves))}
    assert all(error < 0.25 for *_, error in found)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_real_speech_is_found(emodb_dir, name):
    waves = [read_wave(path) for path in sorted((emodb_dir / "wav").glob("*.wav"))[::60]]
    prints = [fingerprint(wave) for wave in waves]
    copies = [fingerprint(COPIES[name](wave)) for wave in waves]
    found = near_copies([*prints, *copies], [0] * len(prints) + [1] * len(copies))
    assert {pair[:2] for pair in found} == {(number, number + len(waves)) for number in range(len(waves))}


def test_no_two_of_emodbs_clips_are_called_the_same(emodb_dir):
    prints = [fingerprint(read_wave(path)) for path in sorted((emodb_dir / "wav").glob("*.wav"))]
    assert near_copies(prints, range(len(prints))) == []


def test_clips_of_one_group_are_not_compared(waves):
    assert near_copies([fingerprint(waves[0])] * 2, ["train", "train"]) == []


def test_the_same_faint_noise_behind_two_clips_does_not_make_them_one(waves):
    noise = 1e-4 * np.random.default_rng(0).normal(size=4 * RATE_HZ).astype(np.float32)
    prints = [fingerprint(np.concatenate([wave[:RATE_HZ], noise])) for wave in waves[:2]]
    assert near_copies(prints, [0, 1]) == []


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros(400), np.zeros(32_000), np.full(32_000, 0.1)])
def test_what_holds_no_sound_matches_nothing(wave, waves):
    empty = fingerprint(wave.astype(np.float32))
    assert near_copies([empty, empty, fingerprint(waves[0])], [0, 1, 2]) == []


def test_a_fingerprint_does_not_depend_on_the_length_of_the_blocks_it_is_made_in(waves, monkeypatch):
    whole = fingerprint(waves[0])
    monkeypatch.setattr("ser.data.fingerprint._BLOCK_FRAMES", 7)
    assert np.array_equal(fingerprint(waves[0]).codes, whole.codes)


def test_a_hash_is_that_of_the_samples_and_not_of_the_file(waves):
    samples = (32768 * waves[0]).astype(np.int16)
    assert recording_hash(stored("WAV", samples)) == recording_hash(stored("FLAC", samples))
    assert recording_hash(stored("WAV", samples)) != recording_hash(stored("WAV", samples // 2))


def stored(form: str, samples: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=form)
    return read_wave(file.getvalue())
