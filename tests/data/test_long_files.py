"""Files that are longer than a corpus allows, or whose headers promise that: refused at once, by every reader."""

import io
import shutil

import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import archive_of, prepared, tone

from ser.data.corpora import sources
from ser.data.corpora.recordings import Corpus, Recording
from ser.data.corpora.sources import source_of
from ser.data.data_arguments import DataArguments
from ser_model import read_wave


def manifest(folder, *names, columns="path,label", rows=None):
    lines = rows or [f"{name},{'xy'[number % 2]}" for number, name in enumerate(names)]
    (folder / "clips.csv").write_text("\n".join([columns, *lines]))
    return {"manifest": str(folder / "clips.csv"), "max_file_seconds": 2.0}


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf"])
def test_a_file_beyond_the_limit_is_refused_whatever_its_format(suffix, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1.9), 16_000)
    soundfile.write(tmp_path / "b.wav", tone(1.8), 16_000)
    soundfile.write(tmp_path / f"long.{suffix}", tone(2.4), 16_000)
    options = manifest(tmp_path, "a.wav", "b.wav", f"long.{suffix}")
    with pytest.raises(ValueError, match=rf"long\.{suffix}: is longer than 2 s, the most that is read here"):
        prepared(tmp_path, "manifest", **options)
    found = prepared(tmp_path, "manifest", **options, skip_unreadable=True)
    assert found["id"][:] == ["a", "b"]


def test_the_limit_holds_for_a_file_that_is_cut_into_segments(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(2.4), 16_000)
    rows = ["long.wav,x,0,1", "long.wav,y,1,2"]
    with pytest.raises(ValueError, match=r"is longer than 2 s"):
        prepared(tmp_path, "manifest", **manifest(tmp_path, columns="path,label,start,end", rows=rows))


def test_a_header_that_promises_days_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    hours = np.zeros(1000 * 3600 * 5, np.int16)
    hours[::7] = 1
    soundfile.write(tmp_path / "a.flac", hours[: 1000 * 60], 1_000)
    soundfile.write(tmp_path / "b.flac", hours, 1_000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="is longer than 14400 s"):
        read_wave(tmp_path / "b.flac", max_seconds=DataArguments.max_file_seconds)


def test_a_header_that_hides_its_length_is_stopped_while_it_is_decoded(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(3.0), 16_000, format="WAV", subtype="PCM_16")
    data = bytearray(buffer.getvalue())
    at = data.index(b"data") + 4
    data[4:8], data[at : at + 4] = b"\xff" * 4, bytes(4)  # as a program writes it into a pipe
    (tmp_path / "pipe.wav").write_bytes(data)
    assert len(read_wave(tmp_path / "pipe.wav")) == 48_000
    with pytest.raises(ValueError, match="is longer than 2 s"):
        read_wave(tmp_path / "pipe.wav", max_seconds=2.0)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")
def test_ffmpeg_is_stopped_too(tmp_path):
    import subprocess

    soundfile.write(tmp_path / "a.wav", tone(3.0), 16_000)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", tmp_path / "a.m4a"], check=True)
    with pytest.raises(ValueError, match="is longer than 2 s"):
        read_wave(tmp_path / "a.m4a", max_seconds=2.0)


def test_a_member_of_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    archive_of(tmp_path / "clips.zip", "a.wav")
    corpus = Corpus({}, root=tmp_path)
    one = Recording("a", "a.wav", archive="clips.zip")
    assert source_of(one, corpus) == b"sound" * 100
    monkeypatch.setattr(sources, "_MAX_UNPACKED", 499)
    with pytest.raises(ValueError, match=r"has 500 bytes in clips\.zip, at most 499 are unpacked"):
        source_of(one, corpus)


def test_a_block_of_many_channels_takes_no_more_memory_than_one_of_few(tmp_path, monkeypatch):
    seen = []
    read = soundfile.SoundFile.read

    def counted(self, frames=-1, **options):
        seen.append(frames * self.channels)
        return read(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    soundfile.write(tmp_path / "many.wav", np.tile(tone(0.01, 192_000), 1000), 192_000)
    assert len(read_wave(tmp_path / "many.wav")) == 160
    assert max(seen) <= 2**24


def test_the_limit_is_a_number_above_0():
    with pytest.raises(ValueError, match="--max_file_seconds: 0 must be more than 0"):
        DataArguments(max_file_seconds=0)
