"""Lists, tables and stores: where `ser predict` finds recordings beyond a folder of this machine."""

import fsspec
import pandas as pd
import pytest
from fakes.cli_runs import by_label, found, ser

from ser.inference.download import local_copy
from ser.inference.recordings import find_recordings


@pytest.fixture
def bucket(clips):
    """The clips in fsspec's store in memory, below `memory://calls`; hidden names and other files beside them."""
    store = fsspec.filesystem("memory")
    for path in clips.rglob("*.*"):
        store.pipe(f"/calls/{path.relative_to(clips)}", path.read_bytes())
    store.pipe("/calls/notes.md", b"no audio")
    store.pipe("/calls/.git/x.wav", b"hidden")
    yield "memory://calls"
    store.rm("/calls", recursive=True)


def names(*paths, below: str) -> list[str]:
    return [path.split(below)[1].lstrip("/") for path in find_recordings(paths)]


def test_a_folder_in_a_store_is_searched_as_a_folder_here(bucket, clips, classify, model_dir):
    assert names(bucket, below="calls") == ["a.wav", "b/b.flac", "b/c.ogg", "d.WAV", "e.mp3"]
    answers = found(ser(bucket, "--model", model_dir, "--format", "jsonl"))
    assert list(answers) == find_recordings([bucket])
    for name, scores in zip(("a.wav", "b/b.flac"), answers.values(), strict=False):
        assert by_label(scores) == pytest.approx(by_label(classify(clips / name)), abs=1e-5)


def test_globs_and_single_files_in_a_store(bucket):
    assert names(f"{bucket}/b/*", below="calls") == ["b/b.flac", "b/c.ogg"]
    assert names(f"{bucket}/**/*.ogg", below="calls") == ["b/c.ogg"]
    assert find_recordings([f"{bucket}/gone.wav"]) == [f"{bucket}/gone.wav"]


def test_a_url_of_a_local_file_is_that_file(clips, model_dir):
    (clips / "text.wav").write_text("no audio")
    paths = [f"file://{clips / name}" for name in ("a.wav", "text.wav")]
    result = ser(*paths, "--model", model_dir, "--format", "jsonl")
    assert list(found(result)) == paths[:1]
    assert result.stderr.splitlines()[1].startswith(f"  {paths[1]}: is not audio")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("memory://nothing/here/*.wav", "no recording matches"),
        ("nope://bucket/calls", r"nope://bucket/calls: cannot be read \(Protocol not known: nope\)"),
        ("memory://calls/list.txt", "cannot be read"),
    ],
)
def test_a_store_that_cannot_be_listed_is_refused_before_a_model_is_loaded(path, words):
    with pytest.raises(ValueError, match=words):
        find_recordings([path])


def test_a_recording_in_a_store_that_is_gone_or_too_large_is_one_bad_recording(bucket, model_dir):
    result = ser(f"{bucket}/a.wav", f"{bucket}/gone.wav", "--model", model_dir, "--format", "jsonl")
    assert result.exit_code == 1
    assert list(found(result)) == [f"{bucket}/a.wav"]
    assert "gone.wav: cannot be read" in result.stderr
    with pytest.raises(ValueError, match=r"a\.wav: has more than 0\.01 MB"), local_copy(f"{bucket}/a.wav", 0.01):
        pass


@pytest.mark.parametrize("where", ["here", "in a store"])
def test_lists_and_tables_name_recordings(clips, tmp_path, where):
    paths = [str(clips / "a.wav"), str(clips / "b" / "c.ogg")]
    (tmp_path / "list.txt").write_text(f"{paths[0]}\r\n\n{paths[1]}\n")
    pd.DataFrame({"speaker": ["x", "y"], "path": paths}).to_parquet(tmp_path / "list.parquet")
    base = tmp_path
    if where == "in a store":
        base = "memory://lists"
        for file in tmp_path.glob("list.*"):
            fsspec.filesystem("memory").pipe(f"/lists/{file.name}", file.read_bytes())
    assert find_recordings([f"{base}/list.txt"]) == paths
    assert find_recordings([f"{base}/list.parquet"]) == paths


def test_a_table_without_paths_and_an_empty_list_are_refused(tmp_path):
    pd.DataFrame({"name": ["a.wav"]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"file": ["a.wav", None]}).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_text("no table")
    (tmp_path / "d.txt").write_text("\n")
    for name, words in (("a", "has the columns name; expected file or path"), ("b", "column 'file' holds None")):
        with pytest.raises(ValueError, match=words):
            find_recordings([str(tmp_path / f"{name}.parquet")])
    with pytest.raises(ValueError, match=r"c\.parquet: Parquet magic bytes"):
        find_recordings([str(tmp_path / "c.parquet")])
    with pytest.raises(ValueError, match=r"d\.txt: names no recording"):
        find_recordings([str(tmp_path / "d.txt")])
