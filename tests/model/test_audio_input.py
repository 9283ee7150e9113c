"""Files and arrays as users have them: float scales, pipes, cut-off files, damaged headers, channels and uploads."""

import io
import logging
import struct

import numpy as np
import pytest
import soundfile
from fakes.tiny import noise, tiny_model
from transformers import pipeline

from ser.data.audio import decode_wav, encode_wav
from ser_model import SERForAudioClassification, open_audio, read_blocks, read_wave

LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    return pipeline("audio-classification", model=str(tiny_model(tmp_path_factory.mktemp("m"))), trust_remote_code=True)


def encoded(wave, rate_hz=16_000, format="WAV", **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=format, **options)
    return buffer.getvalue()


def wav(riff: int, data: int, tags: bytes = b"", rate_hz: int = 16_000, samples: int = 16_000) -> bytes:
    """A WAV file of noise with the given sizes in its header."""
    payload = np.rint(noise(samples / 16_000) * 32768).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return struct.pack("<4sI", b"RIFF", riff) + b"WAVE" + form + tags + struct.pack("<4sI", b"data", data) + payload


def array_of(source) -> np.ndarray:
    return np.concatenate(list(open_audio(source)[1]))


@pytest.mark.parametrize("scale", [32768.0, 10 ** (12 / 20) / 0.1, 1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_float_file_is_heard_as_its_array_at_every_scale(scale, subtype):
    wave = scale * noise(1.0)
    from_file = read_wave(encoded(wave, subtype=subtype))
    np.testing.assert_array_equal(from_file, array_of(wave))
    np.testing.assert_allclose(from_file, wave / max(1.0, np.abs(wave).max()), rtol=1e-6)
    np.testing.assert_array_equal(decode_wav(encode_wav(from_file)), from_file)  # the corpus keeps what is predicted on


@pytest.mark.parametrize("scale", [32768.0, 1e-3])
def test_a_float_file_at_another_rate_and_in_stereo_is_heard_as_its_array(scale):
    wave = scale * np.stack([noise(1.0, rate_hz=44_100), 0.5 * noise(1.0, 1, 44_100)], axis=1)
    from_file = read_wave(encoded(wave, 44_100, subtype="FLOAT"))
    from_array = array_of({"array": wave, "sampling_rate": 44_100})
    np.testing.assert_allclose(from_file, from_array, atol=1e-6 * np.abs(from_array).max())
    np.testing.assert_array_equal(read_wave(encoded(from_file, subtype="FLOAT")), from_file)  # nothing changes again
    blocks = np.concatenate(list(read_blocks(encoded(wave, 44_100, subtype="FLOAT"), block_seconds=0.1)))
    np.testing.assert_allclose(blocks, from_file, atol=1e-6 * np.abs(from_array).max())


def test_integer_and_lossy_files_are_rounded_to_16_bits():
    for options in ({"subtype": "PCM_24"}, {"subtype": "PCM_16"}, {"format": "OGG"}):
        wave = read_wave(encoded(noise(1.0, rate_hz=22_050), 22_050, **options))
        np.testing.assert_array_equal(wave * 32768, np.rint(wave * 32768))


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_a_sampling_rate_that_no_recorder_writes_is_refused(classify, rate_hz):
    with pytest.raises(ValueError, match=r"^<bytes>: (has a sampling rate of|is not audio).*$"):
        read_wave(wav(32_036, 32_000, rate_hz=rate_hz))
    with pytest.raises(ValueError, match=r"clip: has a sampling rate of .* expected 1000 to 768000 Hz"):
        classify({"array": noise(1.0), "sampling_rate": rate_hz, "path": "clip"})


def test_a_recording_longer_than_the_reader_wants_is_refused_before_and_while_it_is_decoded(monkeypatch):
    assert len(read_wave(wav(32_036, 32_000), max_seconds=1.0)) == 16_000
    with pytest.raises(ValueError, match=r"^a\.wav: is longer than 0.5 s"):
        read_wave(wav(32_036, 32_000), "a.wav", max_seconds=0.5)
    monkeypatch.setattr("ser_model._UNKNOWN_FRAMES", 0)  # as if the header did not say how long it is
    blocks = read_blocks(wav(32_036, 32_000), block_seconds=0.2, max_seconds=0.5)
    assert len(next(blocks)) == len(next(blocks)) == 3_200
    with pytest.raises(ValueError, match=r"^<bytes>: is longer than 0.5 s"):
        next(blocks)


@pytest.mark.parametrize("tags", [b"", LIST])
@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0, 0xFFFFFFFF),
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
        (0x80000000, 0x7FFFFFFF),
        (0x40000024, 0x40000000),
        (0, 0x10000000),
    ],
)
def test_a_wav_from_a_pipe_is_read_whole(tmp_path, riff, data, tags):
    (tmp_path / "a.wav").write_bytes(wav(riff, data, tags))
    for source in (tmp_path / "a.wav", wav(riff, data, tags)):
        np.testing.assert_array_equal(read_wave(source), np.rint(noise(1.0) * 32768) / np.float32(32768))


@pytest.mark.parametrize("options", [{"subtype": kind} for kind in ("PCM_16", "PCM_24", "FLOAT", "PCM_U8")])
def test_an_ordinary_wav_that_is_cut_off_is_named(options):
    data = encoded(noise(1.0), **options)
    for share in (0.3, 0.99):
        with pytest.raises(ValueError, match=r"^<bytes>: is cut off"):
            read_wave(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cut off"):
        read_wave(wav(36 + 26 + 8 + 64_000, 64_000, LIST))


@pytest.mark.parametrize(
    "options",
    [
        {"format": "OGG"},
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "MP3"},
        {"format": "FLAC"},
        {"format": "AIFF"},
        {"format": "AU"},
        {"format": "W64"},
        {"format": "RF64"},
        {"format": "CAF"},
    ],
    ids=str,
)
def test_a_file_that_is_cut_off_anywhere_is_never_scored(options):
    data = encoded(noise(3.0), **options)
    assert abs(len(read_wave(data)) - 48_000) <= 1152
    for share in (0.5, 0.7, 0.9, 0.98):
        with pytest.raises(ValueError, match=r"^<bytes>: (is cut off|is damaged|is not audio)"):
            read_wave(data[: int(share * len(data))])


def test_an_mp3_with_tags_is_whole_and_cut_off_it_is_named():
    data = b"ID3\x04\x00\x00" + bytes((0, 0, 2, 0)) + bytes(256) + encoded(noise(3.0), format="MP3")
    assert abs(len(read_wave(data + b"TAG" + bytes(125))) - 48_000) <= 1152
    with pytest.raises(ValueError, match="is cut off"):
        read_wave(data[:-200])


@pytest.mark.parametrize("format", ["WAV", "FLAC", "array"])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_of_channels_that_cancel_the_louder_one_is_heard_and_a_warning_says_so(format, offset, caplog):
    wave = np.rint(noise(1.0) * 32768) / 32768
    stereo = np.stack([wave + offset, -0.99 * wave + offset], axis=1)
    logging.getLogger("transformers").addHandler(caplog.handler)
    heard = array_of(stereo) if format == "array" else read_wave(encoded(stereo, format=format, subtype="PCM_16"))
    logging.getLogger("transformers").removeHandler(caplog.handler)
    np.testing.assert_allclose(np.abs(heard - offset), np.abs(wave), atol=1e-4)
    assert "channels cancel each other; channel 1" in caplog.text


@pytest.mark.parametrize("channels", [2, 8])
def test_one_channel_of_many_that_sounds_is_averaged_as_ever(channels):
    stereo = np.zeros((16_000, channels))
    stereo[:, 1] = noise(1.0)
    np.testing.assert_allclose(array_of(stereo), noise(1.0) / channels, atol=1e-6)


def test_an_upload_is_read_from_its_first_byte(classify, tmp_path):
    data = wav(32_036, 32_000)
    (tmp_path / "a.wav").write_bytes(data)
    upload = io.BytesIO()
    upload.write(data)
    with open(tmp_path / "a.wav", "rb") as file:
        assert classify(upload) == classify(data) == classify(file) == classify([upload])[0]
    with pytest.raises(TypeError, match="open the file in binary mode"):
        classify(io.StringIO("text"))


def test_a_batch_of_clips_in_one_array_is_not_taken_for_channels(classify):
    batch = np.stack([noise(1.0, seed) for seed in range(4)])
    with pytest.raises(ValueError, match=r"array: has shape \(4, 16000\): a batch of clips, or one clip of 4 channels"):
        classify(batch)
    assert len(classify(list(batch))) == 4
    assert len(classify({"array": batch, "sampling_rate": 16_000})) == 5


@pytest.mark.parametrize("arguments", [{}, {"timeline": True}, {"window_seconds": 0.5}])
def test_logits_that_are_not_finite_are_an_error_and_no_scores(tmp_path, arguments):
    tiny_model(tmp_path)
    model = SERForAudioClassification.from_pretrained(tmp_path)
    model.classifier.bias.data[1] = float("nan")
    model.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", model=str(tmp_path), trust_remote_code=True)
    with pytest.raises(ValueError, match=r"^call\.wav: the model's logits are not finite"):
        classify({"array": noise(2.0), "sampling_rate": 16_000, "path": "call.wav"}, **arguments)
