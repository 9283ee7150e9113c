"""Names in another of Unicode's forms on the disk, as macOS writes them: every door finds the file."""

import unicodedata
from pathlib import Path

import pytest
from fakes.fake_corpora import listed, touch

from ser.audio_files import as_on_disk
from ser.data.clips import Clip
from ser.data.split_files import given_parts
from ser.evaluation.report import recordings_in
from ser.inference.recordings import find_recordings

COMPOSED = ("José/clip é.wav", "خشم/آرام ئ.wav", "가/각.wav")
DECOMPOSED = tuple(unicodedata.normalize("NFD", name) for name in COMPOSED)
PARTS = ("train", "dev", "test")


@pytest.fixture
def folder(tmp_path) -> Path:
    assert not set(COMPOSED) & set(DECOMPOSED)
    return touch(tmp_path / unicodedata.normalize("NFD", "données"), *DECOMPOSED)


def composed(folder: Path) -> Path:
    return folder.parent / unicodedata.normalize("NFC", folder.name)


@pytest.mark.parametrize("data_dir", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_manifest_finds_the_files(folder, data_dir, absolute):
    before = f"{composed(folder)}/" if absolute else ""
    lines = [f"{before}{name},{label}" for name, label in zip(COMPOSED, "xyx", strict=True)]
    (folder / "clips.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    options = {"data_dir": str(composed(folder))} if data_dir else {}
    corpus = listed("manifest", manifest=str(composed(folder) / "clips.csv"), **options)
    assert sorted(corpus.located(r.path) for r in corpus.recordings) == sorted(folder / name for name in DECOMPOSED)
    assert all(
        corpus.located(r.path).is_file() and r.id == unicodedata.normalize("NFC", r.id) for r in corpus.recordings
    )


def test_a_folder_of_labels_gives_composed_labels_and_ids(folder):
    corpus = listed("folder", composed(folder))
    assert set(corpus.labels) == {"José", "خشم", "가"}
    assert {r.id for r in corpus.recordings} == {name.removesuffix(".wav") for name in COMPOSED}


def test_a_split_file_is_found_and_its_names_mean_the_clips(folder):
    names = [name.removesuffix(".wav") for name in DECOMPOSED]
    lines = [f"{name}.wav,{part}" for name, part in zip(names, PARTS, strict=True)]
    (folder / "split.csv").write_text("\n".join(["path,split", *lines]), encoding="utf-8")
    clips = [Clip(name.removesuffix(".wav")) for name in COMPOSED]
    parts, notes = given_parts(clips, str(composed(folder) / "split.csv"), "given")
    assert parts == dict(zip((clip.id for clip in clips), PARTS, strict=True))
    assert notes == []


def test_prediction_finds_files_folders_and_lists(folder):
    there = [str(folder / name) for name in DECOMPOSED]
    assert sorted(find_recordings([str(composed(folder))])) == sorted(there)
    asked = [str(composed(folder) / name) for name in COMPOSED]
    assert find_recordings(asked) == there
    assert find_recordings(["-"], asked) == there


def test_a_report_finds_the_recordings_of_its_clips(folder):
    audio = recordings_in(folder)
    for name, stored in zip(COMPOSED, DECOMPOSED, strict=True):
        assert audio(name.removesuffix(".wav")) == stored.encode()


def test_a_name_that_is_there_stays_as_it_is_and_one_that_is_in_no_form_too(folder):
    touch(folder, COMPOSED[0])
    assert as_on_disk(folder / COMPOSED[0]) == folder / COMPOSED[0]
    assert as_on_disk(folder / DECOMPOSED[0]) == folder / DECOMPOSED[0]
    assert as_on_disk(composed(folder) / "José/è.wav") == composed(folder) / "José/è.wav"
    assert as_on_disk("no/such.wav") == Path("no/such.wav")
