"""Tables that other programs write: Excel, audformat, and datasets of the `datasets` library."""

import io

import datasets
import pytest
import soundfile
import yaml
from fakes.fake_corpora import listed, prepared, problems, tone, touch

from ser.data.audit import audit_files
from ser.data.data_arguments import read_data_arguments
from ser.data.segments import Segment, segment_of
from ser.yaml_files import read_yaml


# ------------------------------------------------------------------------------------------------------------- Excel
def workbook(path, *rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_an_excel_sheet_is_read_with_its_numbers_texts_and_empty_rows(tmp_path):
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    rows = [("File", "Emotion", "Speaker_ID"), ("a.wav", "01", 3), (), ("b.wav", "no", "03x"), ("c.wav", None, 4)]
    path = workbook(tmp_path / "clips.xlsx", *rows)
    found = listed("manifest", manifest=str(path))
    assert [(r.id, r.emotion, r.speaker) for r in found.recordings][:2] == [("a", "01", "3"), ("b", "no", "03x")]
    assert problems(found) == {"c.wav": "row 5 has no label (NaN, None, n/a and the like mean none)"}


def test_a_spreadsheet_in_another_form_is_refused_with_the_way_out(tmp_path, monkeypatch):
    path = workbook(tmp_path / "clips.xlsx", ("path", "label"), ("a.wav", "x"))
    path.rename(tmp_path / "clips.csv")
    with pytest.raises(ValueError, match=r"clips\.csv: is a spreadsheet .* save it as \.xlsx or as CSV"):
        listed("manifest", manifest=str(tmp_path / "clips.csv"))
    (tmp_path / "old.xlsx").write_text("path,label\na.wav,x\n")
    with pytest.raises(ValueError, match=r"old\.xlsx: is not an Excel workbook"):
        listed("manifest", manifest=str(tmp_path / "old.xlsx"))
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"needs openpyxl: pip install 'ser\[excel\]'"):
        listed("manifest", manifest=str(tmp_path / "old.xlsx"))


# --------------------------------------------------------------------------------------------------------- audformat
HEADER = {
    "name": "db",
    "schemes": {
        "emotion": {"dtype": "str", "labels": {"W": "anger", "N": "neutral"}},
        "speaker": {"dtype": "str", "labels": {"01": {"gender": "female"}, "02": {"gender": "male"}}},
    },
    "splits": {"train": {"type": "train"}, "test": {"type": "test"}},
    "tables": {
        "files": {"type": "filewise", "columns": {"speaker": {"scheme_id": "speaker"}}},
        "emotion.train": {"type": "segmented", "split_id": "train", "columns": {"emotion": {"scheme_id": "emotion"}}},
        "emotion.test": {"type": "segmented", "split_id": "test", "columns": {"emotion": {"scheme_id": "emotion"}}},
    },
}
TABLES = {
    "files": "file,speaker,duration\nwav/a.wav,01,0 days 00:00:09\nwav/b.wav,02,0 days 00:00:09\n",
    "emotion.train": "file,start,end,emotion\nwav/a.wav,0 days 00:00:00,0 days 00:00:01.500000,W\n"
    "wav/a.wav,0 days 00:00:01.500000,NaT,N\n",
    "emotion.test": "file,start,end,emotion\nwav/b.wav,0 days,NaT,N\n",
}


def database(folder, header=HEADER, tables=TABLES):
    touch(folder, "wav/a.wav", "wav/b.wav")
    (folder / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False))
    for name, text in tables.items():
        (folder / f"db.{name}.csv").write_text(text)
    return folder


def test_an_audformat_database_gives_labels_segments_speakers_genders_and_splits(tmp_path):
    folder = database(tmp_path)
    found = listed("manifest", manifest=str(folder))
    assert [(r.emotion, r.speaker, r.gender, r.split, r.segment) for r in found.recordings] == [
        ("anger", "01", "female", "train", Segment(0.0, 1.5)),
        ("neutral", "01", "female", "train", Segment(1.5, None)),
        ("neutral", "02", "male", "test", None),
    ]
    assert [r.id for r in found.recordings] == ["wav/a_0.000-1.500", "wav/a_1.500-end", "wav/b"]
    assert found.has_split
    assert listed("manifest", manifest=str(folder / "db.yaml")).recordings == found.recordings
    assert audit_files([str(folder / "db.yaml")])["leaks"] == []


def test_an_audformat_database_that_is_not_whole_or_not_clear_is_refused(tmp_path):
    pickled = database(tmp_path / "a")
    (pickled / "db.files.csv").rename(pickled / "db.files.pkl")
    with pytest.raises(ValueError, match=r"table files is not there .* pickle is there, which is not read"):
        listed("manifest", manifest=str(pickled))
    twice = {**TABLES, "emotion.test": TABLES["emotion.train"].replace(",W", ",N")}
    with pytest.raises(ValueError, match=r"emotion\.train and emotion\.test give wav/a\.wav different labels"):
        listed("manifest", manifest=str(database(tmp_path / "b", tables=twice)))
    header = {**HEADER, "tables": {"files": HEADER["tables"]["files"]}}
    with pytest.raises(ValueError, match="no table has a column for the label"):
        listed("manifest", manifest=str(database(tmp_path / "c", header)))


# ---------------------------------------------------------------------------------------------------------- datasets
def audio_bytes(number):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.1, pitch_hz=300 + 10 * number), 16_000, format="FLAC")
    return buffer.getvalue()


def own_dataset(numbers):
    """As people save it: audio in the file's own bytes, labels as numbers with names."""
    columns = {
        "audio": [{"bytes": audio_bytes(number), "path": f"clip{number}.flac"} for number in numbers],
        "Emotion": [number % 2 for number in numbers],
        "speaker_id": list(numbers),
    }
    made = datasets.Dataset.from_dict(columns).cast_column("Emotion", datasets.ClassLabel(names=["anger", "no"]))
    return made.cast_column("audio", datasets.Audio())


def test_a_folder_of_save_to_disk_is_read_without_torchcodec(tmp_path):
    parts = datasets.DatasetDict(train=own_dataset(range(3)), validation=own_dataset([3, 4]), test=own_dataset([5, 6]))
    parts.save_to_disk(str(tmp_path / "saved"))
    found = prepared(tmp_path / "cache", "dataset", dataset_name=str(tmp_path / "saved"))
    assert found["id"][:] == [f"clip{n}" for n in range(7)]
    assert found.features["emotion"].names == ["anger", "no"]
    assert found["split"][:] == ["train"] * 3 + ["dev"] * 2 + ["test"] * 2
    assert found["speaker"][:] == [str(n) for n in range(7)]
    assert found["corpus"][0] == "saved"


def test_one_split_is_no_split_and_a_file_on_the_disk_is_read_there(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(), 16_000)
    rows = {"audio": [{"bytes": None, "path": str(tmp_path / "x.wav")}] * 2, "label": ["a", "b"]}
    made = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    made.save_to_disk(str(tmp_path / "saved"))
    found = prepared(tmp_path / "cache", "dataset", dataset_name=str(tmp_path / "saved"))
    assert found["id"][:] == ["train-000000", "train-000001"]
    assert "split" not in found.column_names


def test_a_folder_of_parquet_files_is_read_and_a_folder_of_audio_files_shown_the_way(tmp_path):
    own_dataset(range(4)).to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    found = prepared(tmp_path / "cache", "dataset", dataset_name=str(tmp_path / "parquet"))
    assert found["id"][:] == [f"clip{n}" for n in range(4)]
    for number in range(4):
        (tmp_path / "audio").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "audio" / f"{number}.wav", tone(), 16_000)
    (tmp_path / "audio" / "metadata.csv").write_text("file_name,label\n0.wav,x\n1.wav,y\n2.wav,x\n3.wav,y\n")
    with pytest.raises(ValueError, match="--corpus folder, or --corpus manifest"):
        listed("dataset", dataset_name=str(tmp_path / "audio"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--dataset_name: --corpus dataset needs"),
        ({"dataset_name": "./nowhere"}, "--dataset_name: './nowhere' is not a folder"),
        ({"dataset_name": "someone/none"}, "--dataset_name: 'someone/none' cannot be loaded"),
    ],
)
def test_a_dataset_that_is_not_there_is_refused_in_words(options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        listed("dataset", **options)


def test_a_dataset_without_audio_or_without_labels_names_its_columns(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(ValueError, match="has no column of audio, only text"):
        listed("dataset", dataset_name=str(tmp_path / "text"))
    own_dataset(range(2)).rename_column("Emotion", "mood").save_to_disk(str(tmp_path / "mood"))
    with pytest.raises(ValueError, match="has no column 'label', only mood, speaker_id"):
        listed("dataset", dataset_name=str(tmp_path / "mood"))


# -------------------------------------------------------------------------------------------------------------- YAML
def test_a_time_of_whole_days_is_a_time():
    assert segment_of({"start": "0 days", "end": "0 days 00:01:02.5"}) == Segment(0.0, 62.5)
    assert segment_of({"start": "00:00:01", "end": "0:00:02"}) == Segment(1.0, 2.0)


def test_labels_in_yaml_keep_their_letters(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "corpus: manifest\nmanifest: clips.csv\nlabel_map: {no: off, 01: 1.0, yes: null, y: ~, 2020-01-01: 0x10}\n"
        "backbone_config: {hidden_size: 24, on: true}\ncorpora: null\n"
    )
    values = read_yaml(path)
    assert values["label_map"] == {"no": "off", "01": "1.0", "yes": None, "y": None, "2020-01-01": "0x10"}
    assert values["backbone_config"] == {"hidden_size": 24, "on": True}
    data, _ = read_data_arguments([str(path)])
    assert data.parsed_label_map()["01"] == "1.0"
    path.write_text("corpora:\n- {corpus: emodb, data_dir: x, label_map: {no: 01}}\n")
    assert read_yaml(path)["corpora"][0]["label_map"] == {"no": "01"}
    path.write_text("no: 1\n")
    assert read_yaml(path) == {"no": 1}
