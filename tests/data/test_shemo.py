import csv
import hashlib
import json

import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import POINTER, archive_of, listed, prepared, problems, published, serving, tone, touch, waves

from data_prep import ShEMO
from ser.data.audio import corpus_facts, undecoded
from ser.data.corpora import shemo
from ser.data.corpora.download import Published


@pytest.fixture(scope="module")
def shemo_names(shemo_meta_dir, tmp_path_factory):
    """A folder with the 3000 names of ShEMO, and what is published of each."""
    with open(shemo_meta_dir / "index.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    folder = tmp_path_factory.mktemp("shemo")
    return touch(folder, *(f"{row['gender']}/{row['id']}.wav" for row in rows)), {row["id"]: row for row in rows}


@pytest.mark.parametrize("source", ["filename", "modified"])
def test_the_3000_names_of_shemo_give_the_published_labels_speakers_and_counts(source, shemo_names, shemo_meta_dir):
    folder, rows = shemo_names
    options = {"modified_labels": str(shemo_meta_dir / "modified_shemo.json")} if source == "modified" else {}
    corpus = listed("shemo", folder, label_source=source, **options)
    for recording in corpus.recordings:
        row = rows[recording.id]
        published = row["speaker"], row["gender"], row[f"emotion_{source}"]
        assert (recording.speaker, recording.gender, recording.emotion) == published
    assert corpus.facts["differences"] == []
    assert len(corpus.recordings) == 3000


def test_transcripts_come_with_the_corrected_labels(shemo_names, shemo_meta_dir):
    table = shemo_meta_dir / "modified_shemo.json"
    corpus = listed("shemo", shemo_names[0], modified_labels=str(table), max_clips=50)
    entries = json.loads(table.read_text(encoding="utf-8"))
    for recording in corpus.recordings:
        entry = entries[f"{recording.id}.wav"]
        assert (recording.transcript, recording.ipa) == (entry["transcript"], entry["ipa"])


def test_f_is_a_woman_in_the_first_place_and_fear_in_the_fourth(tmp_path):
    woman, man = listed("shemo", touch(tmp_path, "F03F02.wav", "M12F01.wav")).recordings
    assert (woman.speaker, woman.gender, woman.emotion) == ("F03", "female", "fear")
    assert (man.speaker, man.gender, man.emotion) == ("M12", "male", "fear")


def test_a_shemo_with_clips_missing_says_so_class_by_class(tmp_path):
    differences = listed("shemo", touch(tmp_path, "F03S02.wav", "any/depth/M12A01.wav")).facts["differences"]
    assert "clips: 2, published 3000" in differences
    assert "speakers: 2, published 87" in differences
    assert "fear: 0, published 38" in differences


def test_corrected_labels_are_found_in_the_folder_and_name_the_clips_that_are_not_there(tmp_path):
    entries = {f"{name}.wav": {"emotion": "neutral"} for name in ("F03S02", "M12A01")}
    (tmp_path / "modified_shemo.json").write_text(json.dumps(entries))
    corpus = listed("shemo", touch(tmp_path, "F03S02.wav"), label_source="modified")
    assert corpus.recordings[0].emotion == "neutral"
    assert "in modified_shemo.json and not here: M12A01.wav" in corpus.facts["differences"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "has no entry F03S02.wav"),
        ({"F03S02.wav": {"emotion": "joy"}}, "'joy' in modified_shemo.json is none of anger, fear"),
    ],
)
def test_a_clip_without_a_corrected_label_is_a_problem_of_that_clip(entries, words, tmp_path):
    (tmp_path / "modified_shemo.json").write_text(json.dumps(entries))
    corpus = listed("shemo", touch(tmp_path, "F03S02.wav"), label_source="modified")
    assert words in problems(corpus)["F03S02.wav"]


def test_a_clip_whose_corrected_entry_is_empty_has_no_transcript(tmp_path):
    (tmp_path / "modified_shemo.json").write_text(json.dumps({"F03S02.wav": {}}))
    (recording,) = listed("shemo", touch(tmp_path, "F03S02.wav")).recordings
    assert (recording.emotion, recording.transcript, recording.ipa) == ("sadness", None, None)


def test_corrected_labels_that_are_not_there_are_asked_for_by_flag(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--modified_labels.*modified_shemo\.json"):
        listed("shemo", touch(tmp_path, "F03S02.wav"), label_source="modified")


def test_a_name_outside_the_grammar_is_a_problem_and_files_of_the_system_are_not(tmp_path):
    names = ["F03S02.wav", "F03X02.wav", "X03S02.wav", "F3S02.wav", "._F03S03.wav", "__MACOSX/F03S04.wav", "notes.txt"]
    corpus = listed("shemo", touch(tmp_path, *names))
    assert set(problems(corpus)) == {"F03X02.wav", "X03S02.wav", "F3S02.wav"}
    assert len(corpus.recordings) == 4


def test_a_folder_without_shemo_says_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"female\.zip and male\.zip"):
        listed("shemo", touch(tmp_path, "readme.txt"))


def test_the_zips_are_read_without_unpacking(tmp_path, monkeypatch):
    data = archive_of(tmp_path / "female.zip", "female/F03S02.wav", "female/F03F01.wav", "__MACOSX/female/._F03S02.wav")
    monkeypatch.setattr(shemo, "ARCHIVES", {"female.zip": published(data)})
    corpus = listed("shemo", tmp_path)
    assert [(r.id, r.path, r.archive) for r in corpus.recordings] == [
        ("F03F01", "female/F03F01.wav", "female.zip"),
        ("F03S02", "female/F03S02.wav", "female.zip"),
    ]
    assert corpus.fetch(tmp_path).recordings == corpus.recordings


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: POINTER, "Git LFS pointer .*git lfs pull"),
        (lambda data: data[:-50], "is cut off: it holds .* curl -L -C -"),
        (lambda data: b"<html>gone</html>", "not a zip file: it starts with b'<html>"),
        (lambda data: data[:-1] + b"!", "not the published file.*sha256.*unpack it"),
        (lambda data: data + b"!", "not the published file.*unpack it"),
    ],
    ids=["pointer", "cut off", "a page", "wrong hash", "too long"],
)
def test_each_way_a_download_goes_wrong_is_told_apart(spoil, words, tmp_path, monkeypatch):
    data = archive_of(tmp_path / "female.zip", "female/F03S02.wav")
    monkeypatch.setattr(shemo, "ARCHIVES", {"female.zip": published(data)})
    (tmp_path / "female.zip").write_bytes(spoil(data))
    with pytest.raises(ValueError, match=words):
        listed("shemo", tmp_path).fetch(tmp_path)


@pytest.fixture
def online(monkeypatch):
    """Lets the code under test use the network; the tests give it this machine's addresses only."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("online")
def test_without_a_folder_shemo_is_downloaded_checked_and_listed(tmp_path, monkeypatch):
    female = archive_of(tmp_path / "f.zip", "female/F03S02.wav")
    male = archive_of(tmp_path / "m.zip", "male/M12A01.wav")
    table = json.dumps({name: {"emotion": "neutral"} for name in ("F03S02.wav", "M12A01.wav")}).encode()
    with serving({"/f": female, "/m": male, "/t": table}) as (address, _):
        archives = {"female.zip": published(female, f"{address}/f"), "male.zip": published(male, f"{address}/m")}
        monkeypatch.setattr(shemo, "ARCHIVES", archives)
        labels = Published((f"{address}/t",), len(table), hashlib.sha256(table).hexdigest(), is_zip=False)
        monkeypatch.setattr(shemo, "MODIFIED_FILE", labels)
        corpus = listed("shemo", label_source="modified", cache_dir=str(tmp_path / "cache")).fetch(tmp_path)
    assert [(r.id, r.emotion) for r in corpus.recordings] == [("F03S02", "neutral"), ("M12A01", "neutral")]


def test_offline_a_download_is_refused_and_the_folder_is_asked_for(tmp_path):
    corpus = listed("shemo", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"(?s)HF_HUB_OFFLINE.*--data_dir"):
        corpus.fetch(tmp_path)


# ---------------------------------------------------------------------------------------------- the prepared corpus
@pytest.fixture
def small_shemo(tmp_path):
    """Three clips of ShEMO's names, and corrected labels that call one of them neutral."""
    folder = tmp_path / "shemo"
    for name in ("female/F03S02", "female/F03F01", "male/M12A01"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", tone(0.2, 44_100), 44_100)
    emotions = {"F03S02": "neutral", "F03F01": "fear", "M12A01": "anger"}
    entries = {
        f"{name}.wav": {"emotion": label, "transcript": "سلام", "ipa": "sælɑm"} for name, label in emotions.items()
    }
    (folder / "modified_shemo.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize(("config", "emotion"), [("filename", "sadness"), ("modified", "neutral")])
def test_the_builder_of_shemo_has_two_configurations(config, emotion, small_shemo, tmp_path):
    builder = ShEMO(config_name=config, data_dir=str(small_shemo), cache_dir=str(tmp_path / "cache"))
    assert set(builder.builder_configs) == {"filename", "modified"}
    builder.download_and_prepare(num_proc=2)
    dataset = builder.as_dataset(split="train")
    assert dataset.column_names[:5] == ["id", "corpus", "speaker", "gender", "emotion"]
    row = undecoded(dataset)[1]
    assert (row["id"], dataset.features["emotion"].int2str(row["emotion"])) == ("F03S02", emotion)
    assert (row["transcript"], row["source_sampling_rate"]) == ("سلام", 44_100)
    assert corpus_facts(dataset)["label_source"] == config


def test_an_incomplete_shemo_is_prepared_and_warns_of_each_difference(small_shemo, tmp_path, caplog):
    dataset = prepared(tmp_path, "shemo", small_shemo)
    assert "clips: 3, published 3000" in caplog.text
    assert "speakers: 2, published 87" in corpus_facts(dataset)["differences"]


def test_the_zips_give_what_the_folders_give(small_shemo, tmp_path, monkeypatch):
    zips, archives = tmp_path / "zips", {}
    zips.mkdir()
    for gender in ("female", "male"):
        sounds = {f"{gender}/{path.name}": path.read_bytes() for path in (small_shemo / gender).iterdir()}
        archives[f"{gender}.zip"] = published(archive_of(zips / f"{gender}.zip", **sounds))
    monkeypatch.setattr(shemo, "ARCHIVES", archives)
    from_zips, from_folders = prepared(tmp_path, "shemo", zips), prepared(tmp_path, "shemo", small_shemo)
    assert from_zips["id"] == from_folders["id"]
    np.testing.assert_equal(waves(from_zips), waves(from_folders))
