import io
import sys

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from ser.data.audio import checked_wave, clip_wave, corpus_facts, decode_wav, encode_wav, pcm_16, undecoded
from ser_model import to_16_bit


def wav_bytes(wave, rate_hz):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def test_every_16_bit_value_comes_back_bit_for_bit():
    wave = np.arange(-32768, 32768, dtype=np.float32) / 32768
    np.testing.assert_array_equal(decode_wav(encode_wav(wave)), wave)


def test_the_stored_bytes_are_a_16_khz_mono_pcm_wav_that_others_read():
    info = soundfile.info(io.BytesIO(encode_wav(np.zeros(800, np.float32))))
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 800)


@pytest.mark.parametrize("scale", [1e-4, 0.3, 1.5])
def test_what_16_bits_cannot_hold_is_stored_as_float_bit_for_bit(scale):
    wave = (scale * np.random.default_rng(0).uniform(-1, 1, 800)).astype(np.float32)
    np.testing.assert_array_equal(decode_wav(encode_wav(wave)), wave)
    info = soundfile.info(io.BytesIO(encode_wav(wave)))
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "FLOAT", 800)


def test_corpus_and_prediction_round_to_the_same_16_bits():
    wave = np.random.default_rng(0).uniform(-1.1, 1.1, 200_000).astype(np.float32)
    halves = (np.arange(-40_000, 40_000, dtype=np.float32) + 0.5) / 32768
    for values in (wave, halves):
        np.testing.assert_array_equal(pcm_16(values) / np.float32(32768), to_16_bit(values))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no audio at all", "not audio"),
        (wav_bytes(np.zeros(800), 8_000), "8000 Hz and 1 channels"),
        (wav_bytes(np.zeros((800, 2)), 16_000), "16000 Hz and 2 channels"),
    ],
)
def test_bytes_of_another_form_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        decode_wav(data)


def test_a_row_of_a_dataset_becomes_a_wave_without_torchcodec():
    wave = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    features = datasets.Features({"audio": datasets.Audio(sampling_rate=16_000)})
    table = pa.Table.from_pylist(
        [{"audio": {"bytes": encode_wav(wave), "path": "a.wav"}}], schema=features.arrow_schema
    )
    row = undecoded(datasets.Dataset(table))[0]
    np.testing.assert_allclose(clip_wave(row), wave, atol=0.5 / 32768)
    assert "torchcodec" not in sys.modules


def test_facts_of_a_dataset_from_elsewhere_are_refused():
    with pytest.raises(ValueError, match=r"data_prep\.py"):
        corpus_facts(datasets.Dataset.from_dict({"id": ["a"]}))


def test_a_wave_of_one_frame_is_long_enough_and_one_sample_less_is_not():
    assert len(checked_wave(np.arange(400, dtype=np.float32))) == 400
    with pytest.raises(ValueError, match="399 samples"):
        checked_wave(np.ones(399, np.float32))


def test_digital_silence_is_refused():
    with pytest.raises(ValueError, match="every sample is zero"):
        checked_wave(np.zeros(16_000, np.float32))
    with pytest.raises(ValueError, match=r"silent: every sample is 0\.25"):
        checked_wave(np.full(16_000, 0.25, np.float32))
