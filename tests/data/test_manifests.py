import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from fakes.fake_corpora import listed, prepared, problems, tone, touch

from ser.data.audit import audit_files


def manifest(path, *lines, **options):
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return listed("manifest", manifest=str(path), **options)


# -------------------------------------------------------------------------------------------------- what attacks
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"path,label\na.wav,x\nb.wav," + b"y" * 1_000_000, "clips.csv: line 3 cannot be read .*field limit"),
        (b"path,label\na.wav,x\nb\0.wav,y", "clips.csv: line 3 holds characters that are no text.*'path'"),
        (b"path,label\na.wav,x\n\xed\xa0\x80.wav,y", "clips.csv: is not UTF-8 text: line 3"),
    ],
)
def test_a_csv_cell_that_is_no_text_names_its_line(text, words, tmp_path):
    (tmp_path / "clips.csv").write_bytes(text)
    with pytest.raises(ValueError, match=words):
        listed("manifest", manifest=str(tmp_path / "clips.csv"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "b\\ud800.wav", "label": "y"}', "line 2 holds characters that are no text"),
        ('{"path": "b\\u0000.wav", "label": "y"}', "line 2 holds characters that are no text"),
        ('{"path": "b.wav", "label": "%s"}' % ("y" * 1_000_000), "line 2 has a cell of 1000000 characters"),
        ('{"path": {"bytes": 1}, "label": "y"}', "line 2 has a dict in the column 'path'"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_json_cell_that_is_no_text_names_its_line(line, words, tmp_path):
    with pytest.raises(ValueError, match=rf"clips\.jsonl: {words}"):
        manifest(tmp_path / "clips.jsonl", '{"path": "a.wav", "label": "x"}', line)


def test_a_pipe_among_the_clips_or_as_manifest_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "clips.csv").write_text("path,label\na.wav,x\npipe.wav,y\n")
    with pytest.raises(ValueError, match=r"pipe\.wav: is no regular file"):
        prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        listed("manifest", manifest=str(tmp_path / "pipe.wav"))
    os.mkfifo(tmp_path / "train.csv")
    with pytest.raises(ValueError, match="is no regular file"):
        audit_files([str(tmp_path / "clips.csv"), str(tmp_path / "train.csv")])


# ------------------------------------------------------------------------------------------------- where files are
def test_paths_that_leave_the_folders_are_refused_unless_they_are_meant(tmp_path):
    folder = touch(tmp_path, "lists/a.wav", "outside.wav", "secret/b.wav") / "lists"
    lines = ["path,label", "a.wav,x", "../outside.wav,y", f"{tmp_path}/secret/b.wav,y", "sub/../a.wav,x"]
    with pytest.raises(ValueError, match=r"2 paths outside .*lists: '\.\./outside\.wav', .*--allow_outside_paths true"):
        manifest(folder / "clips.csv", *lines)
    corpus = manifest(folder / "clips.csv", *lines, allow_outside_paths=True)
    assert [r.id for r in corpus.recordings if not r.problem] == ["a", "b", "outside"]
    assert corpus.located(next(r.path for r in corpus.recordings if r.id == "b")) == tmp_path / "secret/b.wav"
    assert len(manifest(folder / "clips.csv", *lines[:4], data_dir=str(tmp_path)).recordings) == 3
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="1 path outside"):
        manifest(folder / "clips.csv", "path,label", "link/../outside.wav,x", "../secret/b.wav,y")


@pytest.mark.parametrize("path", ["sub\\b.wav", "~/sub/b.wav", "file://{}/sub/b.wav", "./sub//b.wav", "{}/sub/b.wav"])
def test_every_form_of_a_path_finds_its_file(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.wav", "sub/b.wav")
    corpus = manifest(tmp_path / "clips.csv", "path,label", "a.wav,x", f"{path.format(tmp_path)},y")
    assert [r.path for r in corpus.recordings] == ["a.wav", "sub/b.wav"]
    assert [Path(r.id).name for r in corpus.recordings] == ["a", "b"]


def test_paths_are_found_from_data_dir_the_manifest_and_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "data/a.wav", "lists/b.wav", "here/c.wav") / "here")
    lines = ["path,label", "a.wav,x", "b.wav,y", "c.wav,x", "none.wav,y"]
    corpus = manifest(tmp_path / "lists/clips.csv", *lines, data_dir=str(tmp_path / "data"))
    places = {r.id: corpus.located(r.path) for r in corpus.recordings}
    assert places == {
        "a": tmp_path / "data/a.wav",
        "b": tmp_path / "lists/b.wav",
        "c": tmp_path / "here/c.wav",
        "none": tmp_path / "data/none.wav",
    }


# ---------------------------------------------------------------------------------------------------- other formats
def test_an_audit_reads_the_manifests_that_training_reads(tmp_path):
    header, rows = ("File", "Emotion", "spk", "Split", "Start", "Duration"), []
    rows = [("a.wav", "x", "1", "train", "0", "1"), ("a.wav", "y", "1", "test", "1", "2.5")]
    (tmp_path / "clips.csv").write_text("\n".join(";".join(row) for row in (header, *rows)))
    (tmp_path / "clips.json").write_text(json.dumps([dict(zip(header, row, strict=True)) for row in rows]))
    for name in ("clips.csv", "clips.json"):
        ids = [r.id for r in listed("manifest", manifest=str(tmp_path / name)).recordings]
        assert ids == ["a_0.000-1.000", "a_1.000-3.500"]
        found = audit_files([str(tmp_path / name)])
        assert found["leaks"] == ["1 of the 1 test speakers are also in train."]
        assert found["parts"]["test"]["clips_per_class"] == {"x": 0, "y": 1}


ROWS = [{"path": "a.wav", "label": 1, "speaker": None}, {"path": "b.wav", "label": 2, "speaker": "S1"}]


def test_a_json_array_and_parquet_say_the_same_as_json_lines(tmp_path):
    pa.parquet.write_table(pa.Table.from_pylist([*ROWS, {"path": "c.wav"}]), tmp_path / "clips.parquet")
    found = listed("manifest", manifest=str(tmp_path / "clips.parquet"))
    assert problems(found) == {"c.wav": "row 3 has no label (NaN, None, n/a and the like mean none)"}
    array = manifest(tmp_path / "clips.json", json.dumps(ROWS, indent=1))
    lines = manifest(tmp_path / "clips.jsonl", *map(json.dumps, ROWS))
    assert array.recordings == lines.recordings
    assert [(r.id, r.emotion, r.speaker) for r in lines.recordings] == [("a", "1", None), ("b", "2", "S1")]
    assert [r.emotion for r in found.recordings if not r.problem] == ["1", "2"]


def test_a_broken_array_and_a_broken_parquet_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"clips\.json: is not JSON"):
        manifest(tmp_path / "clips.json", "[1, 2")
    with pytest.raises(ValueError, match=r"clips\.json: entry 1 is not a JSON object"):
        manifest(tmp_path / "clips.json", "[1, 2]")
    with pytest.raises(ValueError, match=r"clips\.parquet: is not a Parquet file"):
        manifest(tmp_path / "clips.parquet", "path,label")
