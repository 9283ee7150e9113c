"""Tables and folders as people have them, from public questions and bug reports: read, or refused with the way out."""

import json

import pytest
import soundfile
from fakes.fake_corpora import listed, prepared, problems, tone, touch

from ser.data.segments import Segment

ROWS = [("a", "x", None), ("b", "y", None)]


def manifest(folder, text, name="clips.csv", encoding="utf-8", files=("a.wav", "b.wav")):
    touch(folder, *files)
    (folder / name).write_bytes(text.encode(encoding))
    return listed("manifest", manifest=str(folder / name))


def rows_of(corpus):
    return [(r.id, r.emotion, r.problem) for r in corpus.recordings]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("path | emotion\na.wav | x\nb.wav | y\n", {}),
        ("path,label\na.wav,x\nb.wav,y\n", {"encoding": "utf-16"}),
        ("path\tlabel\r\na.wav\tx\r\nb.wav\ty\r\n", {"encoding": "utf-16", "name": "clips.txt"}),
        ("# raters: 3\n#\npath,label\na.wav,x\nb.wav,y\n", {}),
        ("\ufeffsep=;\npath;label\na.wav;x\nb.wav;y\n", {}),
        (",file,emotion\n0,a.wav,x\n1,b.wav,y\n", {}),
        ("path,label,\ra.wav,x,\rb.wav,y,\r", {}),
        (json.dumps({"path": {"0": "a.wav", "7": "b.wav"}, "label": {"0": "x", "7": "y"}}), {"name": "clips.json"}),
        (json.dumps({"data": [{"file": "a.wav", "emo": "x"}, {"file": "b.wav", "emo": "y"}]}), {"name": "clips.json"}),
        ('{"path": "a.wav", "label": "x"}\n{"path": "b.wav", "label": "y"}\n', {"name": "clips.json"}),
        ("path,label\nA.WAV,x\nb.Wav,y\n", {}),
        ("path,label\na,x\nb,y\n", {}),
    ],
)
def test_a_table_in_one_of_its_many_forms_is_read(text, options, tmp_path):
    corpus = manifest(tmp_path, text, **options)
    assert [(i.lower(), *rest) for i, *rest in rows_of(corpus)] == ROWS
    assert all(corpus.located(recording.path).is_file() for recording in corpus.recordings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label,label\na.wav,x,1\nb.wav,y,2\n", "has the column 'label' 2 times; rename or remove one"),
        ("a.wav,x\nb.wav,y\n", r"begins with a clip \(a\.wav, x\); its first line must name the columns"),
        ("a.wav x\nb.wav y\n", r"begins with a clip \(a\.wav x\)"),
        ("path,anger,joy\na.wav,1,0\nb.wav,0,1\n", "anger, joy hold 0 and 1 only: write the name of the class"),
        (
            "path,label,text\na.wav,x,hi, you\n",
            "line 2 has more cells than the header; put a cell with a comma in quotes",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_what_to_change(text, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        manifest(tmp_path, text)


def test_a_line_is_counted_from_the_top_of_the_file(tmp_path):
    found = manifest(tmp_path, "# a remark\npath,label\na.wav,x\nb.wav,y\nc.wav,\n")
    assert problems(found) == {"c.wav": "line 5 has no label (NaN, None, n/a and the like mean none)"}


def test_several_tables_at_once_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="Join several tables into one, with a column split"):
        listed("manifest", manifest=f"{tmp_path}/train.csv,{tmp_path}/test.csv")


def test_a_second_column_that_could_be_the_label_is_named(tmp_path):
    found = manifest(tmp_path, "path,file,label,emotion\na.wav,1,3,x\nb.wav,2,4,y\n")
    assert found.labels == ("3", "4")
    assert found.facts["notes"] == [
        "clips.csv: column 'file' is not read, as 'path' is the path, "
        "column 'emotion' is not read, as 'label' is the label."
    ]


def test_several_labels_in_a_cell_are_a_problem_unless_the_map_renames_them(tmp_path):
    text = "path,label\na.wav,x\nb.wav,y\nc.wav,x;y\nd.wav,rock/pop\n"
    found = manifest(tmp_path, text)
    assert list(problems(found)) == ["c.wav"]
    assert "has several labels (x;y), and a clip has one here" in problems(found)["c.wav"]
    assert found.labels == ("rock/pop", "x", "y")
    mapping = {"x": "x", "y": "y", "x;y": "mixed", "rock/pop": None}
    renamed = listed("manifest", manifest=str(tmp_path / "clips.csv"), label_map=json.dumps(mapping))
    assert renamed.labels == ("mixed", "x", "y")


def test_a_name_in_another_case_is_taken_only_where_it_is_clear(tmp_path):
    touch(tmp_path, "A.wav", "a.WAV", "b.wav", "b.flac", "c.wav")
    found = manifest(tmp_path, "path,label\na.wav,x\nb,y\nC.wav,x\nc.mp3,y\n", files=())
    there = {r.path for r in found.recordings if found.located(r.path).is_file()}
    assert there == {"c.wav"}


def test_blanks_that_an_annotation_tool_wrote_as_percent_20_are_found(tmp_path):
    text = "path,label\ndata/a%20b.wav,x\n100%25.wav,y\nfile%20c.wav,x\n"
    found = manifest(tmp_path, text, files=("data/a b.wav", "100%.wav", "file%20c.wav"))
    assert sorted(r.path for r in found.recordings) == ["100%.wav", "data/a b.wav", "file%20c.wav"]


def test_times_with_a_decimal_comma_are_times(tmp_path):
    found = manifest(tmp_path, "path;label;start;end\na.wav;x;0,5;1,25\nb.wav;y;0;1\n")
    assert [r.segment for r in found.recordings] == [Segment(0.5, 1.25), Segment(0.0, 1.0)]
    found = manifest(tmp_path, "path;label;start;end\na.wav;x;1,234,567;2\nb.wav;y;0;1\na.wav;x;0;1\n")
    assert "has '1,234,567' in the column 'start', not a number" in next(iter(problems(found).values()))


TELEPHONE = ("ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "PCM_24", "PCM_U8", "DOUBLE")


def test_codecs_of_telephones_and_files_with_another_suffix_are_read(tmp_path):
    for name in TELEPHONE:
        soundfile.write(tmp_path / f"{name}.wav", tone(0.5, 8_000), 8_000, subtype=name, format="WAV")
    for name, kind in (("mp3.wav", "MP3"), ("flac.mp3", "FLAC"), ("wavex.wav", "WAVEX"), ("sphere.sph", "NIST")):
        soundfile.write(tmp_path / name, tone(0.5, 8_000), 8_000, format=kind)
    names = sorted(path.name for path in tmp_path.iterdir())
    lines = [f"{name},{'xy'[number % 2]}" for number, name in enumerate(names)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *lines]))
    found = prepared(tmp_path, "manifest", manifest=str(tmp_path / "clips.csv"))
    assert len(found) == len(TELEPHONE) + 4
    assert set(found["source_sampling_rate"][:]) == {8_000}
    assert all(0.49 < seconds < 0.8 for seconds in found["duration"][:])


def test_a_folder_of_sphere_files_is_found(tmp_path):
    for name in ("x/a.sph", "y/b.sph"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, tone(), 16_000, format="NIST")
    assert [r.emotion for r in listed("folder", tmp_path).recordings] == ["x", "y"]
