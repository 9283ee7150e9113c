"""Copies among the clips of a corpus: found once, kept beside it, and found again when it changes."""

import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import prepared
from fakes.speech import speech_like

from ser.data import copies
from ser.data.copies import copies_in, copies_of


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    monkeypatch.setattr(copies, "_held", {})


def write_clips(folder, **waves):
    lines = ["path,label"]
    for number, (name, wave) in enumerate(waves.items()):
        soundfile.write(folder / f"{name}.wav", wave, 16_000, subtype="PCM_16")
        lines.append(f"{name}.wav,{'xy'[number % 2]}")
    (folder / "clips.csv").write_text("\n".join(lines))
    return folder / "clips.csv"


def prepare(folder, **waves):
    return prepared(folder, "manifest", manifest=str(write_clips(folder, **waves)))


def test_identical_clips_share_a_hash_and_quieter_ones_are_near(tmp_path):
    one, two = speech_like(1), speech_like(2)
    found = copies_of(prepare(tmp_path, a=one, b=two, c=one, d=0.89 * two))
    assert found.hashes["a"] == found.hashes["c"] != found.hashes["b"] != found.hashes["d"]
    assert [pair[:2] for pair in found.near] == [("b", "d")]


def test_a_corpus_is_searched_once_and_again_when_a_clip_changes(tmp_path, monkeypatch):
    one, two = speech_like(1), speech_like(2)
    first = copies_of(prepare(tmp_path, a=one, b=two))
    assert first.near == ()
    copies._held.clear()  # as in another process
    search = copies.copies_in
    monkeypatch.setattr(copies, "copies_in", lambda *_: pytest.fail("the corpus was searched again"))
    assert copies_of(prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"))) == first
    monkeypatch.setattr(copies, "copies_in", search)
    changed = copies_of(prepare(tmp_path, a=one, b=(0.89 * one).astype(np.float32)))
    assert [pair[:2] for pair in changed.near] == [("a", "b")]


def test_part_of_a_corpus_is_searched_for_itself(tmp_path):
    dataset = prepare(tmp_path, a=speech_like(1), b=speech_like(2), c=speech_like(1))
    assert set(copies_of(dataset).hashes) == {"a", "b", "c"}
    assert set(copies_of(dataset.select([0, 1])).hashes) == {"a", "b"}


def test_what_cannot_be_kept_is_found_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(copies, "write_json_rows", refused)
    assert len(copies_of(prepare(tmp_path, a=speech_like(1), b=speech_like(2))).hashes) == 2


def test_beyond_the_most_hours_nobody_looks_and_the_answer_is_that(monkeypatch):
    waves = [(str(seed), speech_like(seed)) for seed in range(3)]
    monkeypatch.setattr(copies, "MAX_HOURS", 7 / 3600)
    found = copies_in(waves)
    assert found.near is None
    assert len(found.hashes) == 3
