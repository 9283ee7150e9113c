import json
import os
import unicodedata
from collections import Counter

import pytest
from fakes.fake_corpora import listed, problems, touch

from ser.data.data_arguments import DataArguments


def manifest(folder, *lines, name="clips.csv", **options):
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return listed("manifest", manifest=str(folder / name), **options)


def test_emodb_has_its_535_clips_of_ten_speakers(emodb_dir):
    corpus = listed("emodb", emodb_dir)
    assert not problems(corpus)
    assert Counter(r.emotion for r in corpus.recordings) == {
        "anger": 127,
        "boredom": 81,
        "neutral": 79,
        "happiness": 71,
        "fear": 69,
        "sadness": 62,
        "disgust": 46,
    }
    women = {r.speaker for r in corpus.recordings if r.gender == "female"}
    men = {r.speaker for r in corpus.recordings if r.gender == "male"}
    assert (women, men) == ({"08", "09", "13", "14", "16"}, {"03", "10", "11", "12", "15"})
    assert all(r.transcript for r in corpus.recordings)


def test_ravdess_is_read_from_its_seven_numbers_and_its_songs_are_left_out(tmp_path):
    names = [
        "Actor_12/03-01-06-01-02-01-12.wav",
        "Actor_01/03-01-02-02-01-02-01.wav",
        "Actor_01/03-02-02-02-01-02-01.wav",
    ]
    corpus = listed("ravdess", touch(tmp_path, *names))
    calm, fear = corpus.recordings
    assert (fear.emotion, fear.speaker, fear.gender) == ("fear", "12", "female")
    assert (calm.emotion, calm.speaker, calm.gender) == ("calm", "01", "male")
    assert fear.transcript.startswith("Dogs")
    assert corpus.facts["notes"] == ["1 songs are left out."]


def test_equal_files_of_one_name_are_taken_once_and_different_ones_are_a_problem(tmp_path):
    name = "03-01-06-01-02-01-12.wav"
    for folder, sound in (("a", b"one"), ("b", b"one"), ("c", b"other")):
        touch(tmp_path, f"{folder}/{name}").joinpath(folder, name).write_bytes(sound)
    corpus = listed("ravdess", tmp_path)
    assert [r.path for r in corpus.recordings if not r.problem] == [f"a/{name}"]
    assert list(problems(corpus)) == [f"c/{name}"]
    assert corpus.facts["notes"] == ["1 files are there twice and are taken once."]


def test_in_a_folder_of_folders_the_first_folder_is_the_label(tmp_path):
    corpus = listed(
        "folder", touch(tmp_path, "angry/a.wav", "angry/deep/a.mp3", "calm/b.flac", "stray.wav", "calm/x.txt")
    )
    assert [(r.id, r.emotion, r.speaker) for r in corpus.recordings if not r.problem] == [
        ("angry/a", "angry", None),
        ("angry/deep/a", "angry", None),
        ("calm/b", "calm", None),
    ]
    assert list(problems(corpus)) == ["stray.wav"]


def test_folders_named_like_parts_of_a_split_are_the_split_and_the_next_level_is_the_label(tmp_path):
    corpus = listed(
        "folder", touch(tmp_path, "Train/sad/a.wav", "Train/glad/b.wav", "valid/sad/c.wav", "test/glad/d.wav")
    )
    assert [(r.id, r.split, r.emotion) for r in corpus.recordings] == [
        ("Train/glad/b", "train", "glad"),
        ("Train/sad/a", "train", "sad"),
        ("test/glad/d", "test", "glad"),
        ("valid/sad/c", "dev", "sad"),
    ]
    assert corpus.has_split


def test_folders_of_speakers_are_not_taken_for_labels_but_asked_about(tmp_path):
    names = [f"{speaker}/{label}/a.wav" for speaker in ("0003", "0004", "0005") for label in ("happy", "sad")]
    touch(tmp_path, *names)
    words = r"happy, sad.*--folder_levels speaker,label .*--folder_levels label,speaker"
    with pytest.raises(ValueError, match=words):
        listed("folder", tmp_path)
    corpus = listed("folder", tmp_path, folder_levels="speaker,label")
    assert corpus.labels == ("happy", "sad")
    assert {r.speaker for r in corpus.recordings} == {"0003", "0004", "0005"}
    assert listed("folder", tmp_path, folder_levels="label,-").labels == ("0003", "0004", "0005")
    touch(tmp_path / "split", *(f"{part}/{name}" for part in ("train", "test") for name in names))
    with pytest.raises(ValueError, match="--folder_levels split,speaker,label"):
        listed("folder", tmp_path / "split")
    with pytest.raises(ValueError, match="--folder_levels: 'speaker' must name label once"):
        listed("folder", tmp_path, folder_levels="speaker")


def test_a_folder_of_a_label_may_be_a_link_and_a_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path / "elsewhere", "a.wav", "b.caf")
    touch(tmp_path / "clips", "calm/c.wav")
    (tmp_path / "clips" / "angry").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "clips" / "calm" / "round").symlink_to(tmp_path / "clips")
    corpus = listed("folder", tmp_path / "clips")
    assert [(r.id, r.emotion) for r in corpus.recordings] == [
        ("angry/a", "angry"),
        ("angry/b", "angry"),
        ("calm/c", "calm"),
    ]


@pytest.mark.parametrize("corpus", ["emodb", "ravdess", "folder"])
def test_an_absent_or_empty_folder_names_the_flag(corpus, tmp_path):
    with pytest.raises(ValueError, match=f"--data_dir: --corpus {corpus} needs the folder"):
        listed(corpus)
    with pytest.raises(FileNotFoundError, match=r"--data_dir.*is not a folder"):
        listed(corpus, tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"--data_dir: no audio file.*\.wav"):
        listed(corpus, tmp_path)


def test_one_label_is_too_few_to_classify(tmp_path):
    with pytest.raises(ValueError, match="only the label 'angry'"):
        listed("folder", touch(tmp_path, "angry/a.wav"))


def test_a_csv_manifest_is_read_with_all_its_columns(tmp_path):
    corpus = manifest(
        tmp_path,
        "path,label,speaker,gender,split,transcript",
        'sub/b.wav,sad,7,F,validation,"one, two"',
        "a.wav, angry ,,,test,",
    )
    a, b = corpus.recordings
    assert (b.id, b.path, b.emotion, b.speaker) == ("sub/b", "sub/b.wav", "sad", "7")
    assert (b.gender, b.split, b.transcript) == ("female", "dev", "one, two")
    assert (a.emotion, a.speaker, a.gender, a.split, a.transcript) == ("angry", None, None, "test", None)
    assert (corpus.labels, corpus.has_split, corpus.root) == (("angry", "sad"), True, tmp_path)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_manifest_with_other_marks_and_other_names_of_columns_is_read_the_same(mark, tmp_path):
    rows = (("File_Name", "Emotion", "spk"), ("a.wav", "x", "1"), ("", "", ""), ("b.wav", "y", "2"))
    lines = "\r\n".join(mark.join(row) for row in rows)
    corpus = manifest(tmp_path, f"\ufeff{lines}\r\n")
    assert [(r.path, r.emotion, r.speaker) for r in corpus.recordings] == [("a.wav", "x", "1"), ("b.wav", "y", "2")]
    assert "column 'Emotion' is read as label" in corpus.facts["notes"][0]


def test_a_jsonl_manifest_says_the_same(tmp_path):
    lines = [json.dumps({"path": "a.wav", "label": 1, "speaker": None}), "", json.dumps({"path": "b.wav", "label": 0})]
    corpus = manifest(tmp_path, *lines, name="clips.jsonl")
    assert [(r.id, r.emotion, r.speaker) for r in corpus.recordings] == [("a", "1", None), ("b", "0", None)]
    assert not corpus.has_split


def test_paths_are_relative_to_data_dir_where_it_is_given(tmp_path):
    (tmp_path / "audio").mkdir()
    corpus = manifest(tmp_path, "path,label", "a.wav,x", "b.wav,y", data_dir=str(tmp_path / "audio"))
    assert corpus.root == tmp_path / "audio"


def test_absolute_paths_do_not_reach_the_ids(tmp_path):
    corpus = manifest(tmp_path, "path,label", f"{tmp_path}/a.wav,x", f"{tmp_path}/b.wav,y")
    assert [r.id for r in corpus.recordings] == ["a", "b"]


def test_absolute_paths_of_one_file_name_keep_the_folders_that_tell_them_apart(tmp_path):
    lines = [f"{tmp_path}/{speaker}/{number}.wav,{'xy'[number]}" for speaker in ("s1", "s2") for number in (0, 1)]
    corpus = manifest(tmp_path, "path,label", *lines)
    assert [r.id for r in corpus.recordings] == ["s1/0", "s1/1", "s2/0", "s2/1"]
    assert not problems(corpus)


def test_a_speaker_in_two_spellings_is_refused_unless_they_are_two(tmp_path):
    lines = ["path,label,speaker", "a.wav,x,S01", "b.wav,y,s01", "c.wav,x,03", "d.wav,y,3"]
    with pytest.raises(ValueError, match=r"'03' and '3'; 'S01' and 's01'.*--speakers_differ true"):
        manifest(tmp_path, *lines)
    assert len({r.speaker for r in manifest(tmp_path, *lines, speakers_differ=True).recordings}) == 4


def test_blanks_and_words_for_nobody_make_no_speaker(tmp_path):
    rows = [{"path": f"{n}.wav", "label": "xy"[n % 2]} for n in range(7)]
    said = ("S02 ", "S02", "NaN", "None", "unknown", "n/a", float("nan"))
    lines = [json.dumps(row | {"speaker": word}) for row, word in zip(rows, said, strict=True)]
    corpus = manifest(tmp_path, *lines, name="clips.jsonl")
    assert [r.speaker for r in corpus.recordings] == ["S02", "S02", None, None, None, None, None]


def test_a_label_in_two_spellings_is_refused_with_the_map_that_joins_them(tmp_path):
    lines = ["path,label", "a.wav,angry", "b.wav,angry", "c.wav,Angry", "d.wav,خشم", "e.wav,غمگين", "f.wav,غمگین"]
    with pytest.raises(ValueError, match="labels that differ in spelling alone") as caught:
        manifest(tmp_path, *lines)
    assert "'Angry' (1 clips) and 'angry' (2 clips)" in str(caught.value)
    label_map = str(caught.value).split("--label_map '")[1].split("'")[0]
    corpus = manifest(tmp_path, *lines, label_map=label_map)
    assert len(corpus.labels) == 3
    assert Counter(r.emotion for r in corpus.recordings)["angry"] == 3


def test_composed_and_decomposed_labels_are_one_and_so_are_folders(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "fâché") for form in ("NFC", "NFD"))
    corpus = manifest(tmp_path, "path,label", f"a.wav,{composed}", f"b.wav,{decomposed}", "c.wav,x")
    assert corpus.labels == (composed, "x")
    names = (f"{composed}/a.wav", f"{decomposed}/b.wav", "x/c.wav")
    assert listed("folder", touch(tmp_path / "f", *names)).labels == (composed, "x")
    mapped = listed("folder", tmp_path / "f", label_map=json.dumps({decomposed: "anger", "x": "x"}))
    assert mapped.labels == ("anger", "x")
    with pytest.raises(ValueError, match=r"'Angry' .* and 'angry'"):
        listed("folder", touch(tmp_path / "g", "Angry/a.wav", "angry/b.wav"))


def test_targets_are_read_as_numbers_and_need_no_label(tmp_path):
    lines = ["path,valence,arousal", "a.wav,0.5,-1", "b.wav,,3", "c.wav,1e-1,high"]
    corpus = manifest(tmp_path, *lines, target_columns="arousal,valence")
    assert corpus.target_columns == ("arousal", "valence")
    assert corpus.recordings[0].targets == (-1.0, 0.5)
    assert problems(corpus) == {
        "b.wav": "line 3 has nothing in the column 'valence', not a number",
        "c.wav": "line 4 has 'high' in the column 'arousal', not a number",
    }
    assert corpus.labels == ()


def test_rows_that_cannot_be_used_are_problems_with_their_line(tmp_path):
    lines = [
        "path,label,split",
        "a.wav,x,train",
        "b.wav,,train",
        ",y,train",
        "c.wav,y,tset",
        "a.wav,x,train",
        "d.wav,y,dev",
    ]
    found = problems(manifest(tmp_path, *lines))
    assert "line 3 has no label" in found["b.wav"]
    assert "line 4 has no path" in found["line 4"]
    assert "'tset'" in found["c.wav"]
    assert "named twice" in found["a.wav"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sound,label\na.wav,x\n", "no column 'path', only label, sound"),
        ("path,lable\na.wav,x\n", "no column 'label'.*Did you mean 'lable'"),
        ("path,label\n", "holds no clip"),
        ("path,label\na.wav,x,y\n", "line 2 has more cells than the header"),
    ],
)
def test_a_manifest_of_another_form_is_refused_by_name(text, words, tmp_path):
    with pytest.raises(ValueError, match=f"clips.csv.*{words}"):
        manifest(tmp_path, text)


def test_a_manifest_that_is_no_text_or_no_json_is_refused_by_name(tmp_path):
    (tmp_path / "clips.csv").write_bytes("path,label\nä.wav,x".encode("latin-1"))
    with pytest.raises(ValueError, match=r"clips\.csv: is not UTF-8"):
        listed("manifest", manifest=str(tmp_path / "clips.csv"))
    with pytest.raises(ValueError, match=r"clips\.jsonl: line 2 is not JSON"):
        manifest(tmp_path, '{"path": "a.wav", "label": "x"}', "{'path'}", name="clips.jsonl")


def test_a_manifest_is_asked_for_by_flag(tmp_path):
    with pytest.raises(ValueError, match="--manifest: --corpus manifest needs"):
        listed("manifest")
    with pytest.raises(FileNotFoundError, match=r"--manifest.*is not a file"):
        listed("manifest", manifest=str(tmp_path / "none.csv"))


def test_a_target_may_not_take_the_name_of_a_column_that_means_something(tmp_path):
    with pytest.raises(ValueError, match="--target_columns: duration has a meaning"):
        manifest(tmp_path, "path,duration", "a.wav,1", target_columns="duration")


def test_a_label_map_merges_drops_and_keeps(tmp_path):
    folder = touch(tmp_path, "03a01Wa.wav", "03a01La.wav", "03a01Ta.wav", "03a01Ea.wav")
    mapping = json.dumps({"boredom": "sadness", "disgust": None})
    corpus = listed("emodb", folder, label_map=mapping)
    assert [(r.id, r.emotion) for r in corpus.recordings] == [
        ("03a01La", "sadness"),
        ("03a01Ta", "sadness"),
        ("03a01Wa", "anger"),
    ]
    assert corpus.labels == ("anger", "fear", "happiness", "neutral", "sadness")


def test_a_label_map_for_a_label_that_is_not_there_names_the_closest(tmp_path):
    with pytest.raises(ValueError, match=r"--label_map: emodb has no label 'angr'.*Did you mean 'anger'\?"):
        listed("emodb", touch(tmp_path, "03a01Wa.wav"), label_map='{"angr": null}')


def test_a_label_outside_the_map_of_ones_own_corpus_is_refused_with_what_to_add(tmp_path):
    folder = touch(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    with pytest.raises(ValueError, match=r"""outside the map: 'c' \(1 clips\).*"c": "c".*null"""):
        listed("folder", folder, label_map='{"a": "x", "b": "y"}')
    assert listed("folder", folder, label_map='{"a": "x", "b": "y", "c": null}').labels == ("x", "y")


@pytest.mark.parametrize("mapping", ["{anger: null}", "[1]", '{"anger": 3}'])
def test_a_label_map_that_is_no_map_is_refused_by_flag(mapping):
    with pytest.raises(ValueError, match="--label_map"):
        DataArguments(corpus="emodb", label_map=mapping)


def test_few_clips_are_spread_over_the_corpus(emodb_dir):
    corpus = listed("emodb", emodb_dir, max_clips=50)
    assert len(corpus.recordings) == 50
    assert len({r.speaker for r in corpus.recordings}) == 10


def test_the_key_of_the_cache_follows_files_and_labels(tmp_path):
    folder = touch(tmp_path, "03a01Wa.wav", "03a01La.wav")
    key = listed("emodb", folder).key()
    assert listed("emodb", folder).key() == key
    assert listed("emodb", folder, label_map='{"boredom": null}').key() != key
    assert listed("emodb", folder, max_clips=1).key() != key
    os.utime(folder / "03a01Wa.wav", (1, 1))
    touched = listed("emodb", folder).key()
    assert touched != key
    touch(folder, "03a01Ta.wav")
    assert listed("emodb", folder).key() not in (key, touched)


def test_the_key_of_the_cache_does_not_follow_the_place(tmp_path):
    for place in ("a", "b"):
        touch(tmp_path / place, "03a01Wa.wav")
        os.utime(tmp_path / place / "03a01Wa.wav", (1, 1))
    assert listed("emodb", tmp_path / "a").key() == listed("emodb", tmp_path / "b").key()
