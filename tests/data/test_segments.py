import numpy as np
import pytest
import soundfile
from fakes.fake_corpora import listed, prepared, problems, waves
from fakes.speech import speech_like

from ser.data.audit import audit_files
from ser_model import read_wave


@pytest.fixture
def call(tmp_path):
    """A folder with one recording of three seconds."""
    soundfile.write(tmp_path / "call.wav", speech_like(1), 16_000)
    return tmp_path


def manifest(folder, *lines, name="clips.csv"):
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return str(folder / name)


def test_the_segments_of_one_file_become_clips_of_their_own_with_their_times_in_the_ids(call, tmp_path):
    lines = ["path,label,start,end", "call.wav,sad,0,1", "call.wav,glad,1,2.5", "call.wav,sad,2.5,"]
    dataset = prepared(tmp_path, "manifest", manifest=manifest(call, *lines))
    assert dataset["id"] == ["call_0.000-1.000", "call_1.000-2.500", "call_2.500-end"]
    assert dataset["duration"] == [1.0, 1.5, 0.5]
    whole, parts = read_wave(call / "call.wav"), waves(dataset)
    np.testing.assert_array_equal(np.concatenate([parts[i] for i in dataset["id"]]), whole)


def test_start_and_duration_name_a_segment_and_a_duration_alone_does_not(call, tmp_path):
    first = ["path,label,start,duration", "call.wav,sad,0.5,1", "call.wav,glad,1.5,0.25"]
    assert prepared(tmp_path, "manifest", manifest=manifest(call, *first))["duration"] == [1.0, 0.25]
    corpus = listed("manifest", manifest=manifest(call, "path,label,duration", "call.wav,sad,3", "b.wav,glad,3"))
    assert [(r.id, r.segment) for r in corpus.recordings] == [("b", None), ("call", None)]


def test_a_column_of_ids_is_kept_and_times_of_pandas_are_read(call):
    lines = ["id,path,label,start_time,end", "one,call.wav,sad,0 days 00:00:00.500000,0 days 00:00:01"]
    corpus = listed("manifest", manifest=manifest(call, *lines, "two,call.wav,glad,NaT,0:00:01"))
    assert [(r.id, *r.segment) for r in corpus.recordings] == [("one", 0.5, 1.0), ("two", 0.0, 1.0)]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2", "1", "line 2 starts at 2 s and ends at 1 s; the start must be below the end"),
        ("1", "1", "the start must be below the end"),
        ("-1", "1", "line 2 has '-1' in the column 'start'"),
        ("0", "1;5", "line 2 has '1;5' in the column 'end'"),
        ("2", "3.5", "segment from 2 s to 3.5 s is beyond the file, which has 3.000 s"),
        ("4", "", "beyond the file"),
    ],
)
def test_a_segment_that_is_none_is_refused_with_its_times(start, end, words, call, tmp_path):
    lines = ["path,label,start,end", f"call.wav,sad,{start},{end}", "call.wav,glad,1,2", "call.wav,sad,0,0.5"]
    with pytest.raises(ValueError, match="1 of 3 files cannot be used") as caught:
        prepared(tmp_path, "manifest", manifest=manifest(call, *lines))
    assert words in str(caught.value)


def test_one_segment_named_twice_is_a_problem(call):
    lines = ["path,label,start,end", "call.wav,sad,0,1", "call.wav,glad,0,1.0", "call.wav,glad,1,2"]
    assert "is named twice" in problems(listed("manifest", manifest=manifest(call, *lines)))["call.wav"]


def test_an_audit_compares_segments_and_not_their_files(call):
    header, first, second = "path,label,speaker,split,start,end", "call.wav,sad,1,train,0,1", "call.wav,sad,2,test,2,3"
    found = audit_files([manifest(call, header, first, second)], str(call), read_wave)
    assert (found["ok"], found["leaks"]) == (True, [])
    soundfile.write(call / "copy.wav", read_wave(call / "call.wav"), 16_000)
    copied = audit_files([manifest(call, header, first, "copy.wav,sad,2,test,0,1")], str(call), read_wave)
    assert [(pair["first"], pair["second"]) for pair in copied["identical_audio"]] == [
        ("call_0.000-1.000", "copy_0.000-1.000")
    ]
