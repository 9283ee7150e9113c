"""What one recording may take: time, memory and length, whatever its header says."""

import os
import struct
import time

import numpy as np
import pytest
import soundfile
from fakes.tiny import noise, tiny_model

from ser.inference.loading import load_pipeline
from ser.page import translations
from ser.page.answer import Limits, classify
from ser.page.decoding import Decoder, decode


@pytest.fixture(scope="module")
def decoder():
    started = Decoder()
    yield started
    started.close()


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return load_pipeline(str(tiny_model(tmp_path_factory.mktemp("model"))), "cpu")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(2.0), 16_000)
    return path


def test_the_model_hears_nothing_more_when_the_time_is_over(pipe, clip):
    with pytest.raises(ValueError, match="took longer than 1e-06 s to score; cut it") as error:
        classify(pipe, clip, Limits(seconds=1e-6))
    assert translations.why(str(error.value))[1] != str(error.value), "no Persian for it"
    assert classify(pipe, clip, Limits()).seconds == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(("rate_hz", "said"), [(1, "sampling rate of 1 Hz"), (1000, "is longer than 600 s")])
def test_a_header_that_lies_about_its_rate_is_refused_before_it_is_decoded(pipe, tmp_path, rate_hz, said):
    path = tmp_path / "liar.wav"
    soundfile.write(path, np.tile(noise(10.0), 5), 16_000)
    with open(path, "r+b") as file:
        file.seek(24)
        file.write(struct.pack("<II", rate_hz, 2 * rate_hz))
    with pytest.raises(ValueError, match=said) as error:
        classify(pipe, path, Limits())
    assert translations.why(str(error.value))[1] != str(error.value), "no Persian for it"


@pytest.mark.heavy
def test_the_process_decodes_as_this_one_does_and_names_what_is_wrong(decoder, clip, tmp_path):
    here, there = tmp_path / "here.flac", tmp_path / "there.flac"
    peaks = decoder.decode(clip, there, 16_000, 1.0, 60.0)
    np.testing.assert_allclose(peaks, decode(clip, here, 16_000, 1.0), atol=1e-4)
    np.testing.assert_array_equal(soundfile.read(here)[0], soundfile.read(there)[0])
    (tmp_path / "words.wav").write_text("these are words")
    with pytest.raises(ValueError, match="is not audio"):
        decoder.decode(tmp_path / "words.wav", there, 16_000, 1.0, 60.0)


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a file that hangs is made with mkfifo")
def test_a_file_that_hangs_is_given_up_and_the_next_visitor_is_answered(decoder, pipe, clip, tmp_path):
    hangs = tmp_path / "hangs.wav"
    os.mkfifo(hangs)
    decoder.wait()
    start = time.monotonic()
    with pytest.raises(ValueError, match="took longer than 1 s to decode"):
        classify(pipe, hangs, Limits(seconds=1.0), decoder)
    assert time.monotonic() - start < 30
    assert classify(pipe, clip, Limits(), decoder).seconds == pytest.approx(2.0, abs=0.02)


@pytest.mark.heavy
def test_a_closed_decoder_leaves_no_process_and_says_so(clip, tmp_path):
    closing = Decoder()
    closing.start()
    closing.close()
    assert closing._process.poll() is not None
    with pytest.raises(ValueError, match="The page is closing"):
        closing.decode(clip, tmp_path / "heard.flac", 16_000, 10.0, 120.0)
