"""Splits: no voice in two parts, every class in every part, the same split from the same clips."""

import csv
import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ser.data import folds
from ser.data.audit import what_is_wrong
from ser.data.clips import Clip, read_clips
from ser.data.data_arguments import PROTOCOLS, DataArguments
from ser.data.folds import frozen_folds, speaker_folds
from ser.data.split_files import unused_splits_file
from ser.data.splits import Split, check_split, load_split, make_split, num_folds_of, save_split, split_hash

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "configs" / "splits" / "shemo_speaker_5fold.json"
LABELS = ("anger", "fear", "neutral", "sadness")


def corpus(num_speakers: int = 15, clips_each: int = 12) -> dict[str, list]:
    """Columns of a corpus in which some speakers have twice the clips, and few have fear."""
    draw, rows = random.Random(0), []
    for speaker in range(num_speakers):
        for number in range(clips_each * (1 + speaker % 2)):
            label = draw.choices(LABELS, (4, 0.5 * (speaker % 2), 3, 2))[0]
            rows.append((f"s{speaker:02}_{number:02}", f"s{speaker:02}", ("female", "male")[speaker % 3 > 0], label))
    return dict(zip(("id", "speaker", "gender", "emotion"), map(list, zip(*rows, strict=True)), strict=True))


def shemo_columns(folder: Path, labels: str = "emotion_filename") -> dict[str, list]:
    with open(folder / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in ("id", "speaker", "gender")} | {
        "emotion": [row[labels] for row in rows]
    }


def speakers_in(ids, columns) -> set[str]:
    known = dict(zip(columns["id"], columns["speaker"], strict=True))
    return {known[i] for i in ids}


def test_no_speaker_is_in_two_parts_and_every_clip_is_tested_once():
    columns, tested = corpus(), []
    for fold in range(5):
        split = make_split(columns, fold=fold)
        voices = [speakers_in(ids, columns) for ids in split.parts.values()]
        assert split.speaker_independent
        assert sum(map(len, voices)) == len(set().union(*voices)) == 15
        assert sum(map(len, split.parts.values())) == len(columns["id"])
        tested += split.test
    assert sorted(tested) == sorted(columns["id"])


def test_fold_0_of_5_with_seed_42_is_what_one_gets_without_a_word():
    columns = corpus()
    assert make_split(columns) == make_split(columns, "speaker_kfold", fold=0, num_folds=5, seed=42)
    assert num_folds_of("speaker_kfold", columns) == 5


def test_the_next_fold_is_dev():
    columns = corpus()
    assert make_split(columns, fold=4).dev == make_split(columns, fold=0).test


def test_labels_and_genders_are_spread_evenly_over_the_folds():
    columns = corpus(num_speakers=40)
    clips = {clip.id: clip for clip in read_clips(columns)}
    total = Counter(trait for clip in clips.values() for trait in (clip.emotion, clip.gender))
    for fold in range(5):
        tested = [clips[i] for i in make_split(columns, fold=fold).test]
        found = Counter(trait for clip in tested for trait in (clip.emotion, clip.gender))
        for trait, count in total.items():
            assert found[trait] == pytest.approx(count / 5, rel=0.2, abs=1)


@pytest.mark.parametrize("protocol", ["speaker_kfold", "leave_one_speaker_out", "random_kfold", "random_holdout"])
def test_the_order_of_the_rows_does_not_matter(protocol):
    columns = corpus()
    order = list(range(len(columns["id"])))
    random.Random(1).shuffle(order)
    shuffled = {name: [values[row] for row in order] for name, values in columns.items()}
    assert make_split(columns, protocol) == make_split(shuffled, protocol)


@pytest.mark.parametrize("protocol", ["speaker_kfold", "random_kfold", "random_holdout"])
def test_another_seed_gives_another_split(protocol):
    columns = corpus(num_speakers=30)
    assert make_split(columns, protocol, seed=1).sha256 != make_split(columns, protocol, seed=2).sha256


def test_leaving_one_speaker_out_tests_each_speaker_alone():
    columns = corpus(num_speakers=6)
    folds = num_folds_of("leave_one_speaker_out", columns)
    tested = [speakers_in(make_split(columns, "leave_one_speaker_out", fold).test, columns) for fold in range(folds)]
    assert tested == [{f"s{number:02}"} for number in range(6)]


def test_a_random_split_is_refused_unless_leakage_is_accepted():
    columns = corpus()
    split = make_split(columns, "random_kfold")
    assert not split.speaker_independent
    with pytest.raises(ValueError, match=r"speakers are also in train.*--accept_speaker_leakage true"):
        check_split(split, columns)
    check_split(split, columns, accept_speaker_leakage=True)


def test_a_corpus_without_speakers_is_refused_unless_leakage_is_accepted():
    columns = corpus() | {"speaker": [None] * len(corpus()["id"])}
    split = make_split(columns)
    assert split.protocol == "random_kfold"
    assert not split.speaker_independent
    with pytest.raises(ValueError, match=r"name no speaker.*path,label,speaker.*--accept_speaker_leakage true"):
        check_split(split, columns)
    check_split(split, columns, accept_speaker_leakage=True)


def test_a_split_in_which_one_clip_names_no_speaker_is_not_called_independent_of_speakers():
    columns = given()
    columns["split"] = ["dev" if s == "s05" else p for s, p in zip(columns["speaker"], columns["split"], strict=True)]
    assert make_split(columns, "given").speaker_independent
    columns["speaker"][columns["split"].index("training")] = None
    split = make_split(columns, "given")
    assert not split.speaker_independent
    with pytest.raises(ValueError, match="1 of 216 clips name no speaker"):
        check_split(split, columns)


def test_a_dev_is_drawn_at_random_where_a_training_clip_names_no_speaker():
    columns = given()
    columns["speaker"][columns["split"].index("training")] = None
    assert make_split(columns, "given").notes[0].endswith("training clips are used as dev, drawn at random.")


def test_clips_without_a_speaker_among_others_are_listed():
    columns = corpus()
    columns["speaker"][3] = None
    with pytest.raises(ValueError, match=r"1 of 264 clips name no speaker \(s00_03\)"):
        make_split(columns)


def test_a_speaker_put_into_test_by_hand_is_refused():
    columns = corpus()
    split = make_split(columns)
    moved = replace(split, train=split.train[1:], test=(*split.test, split.train[0]))
    with pytest.raises(ValueError, match="1 of the 4 test speakers are also in train"):
        check_split(moved, columns)


def test_the_same_recording_under_two_names_is_refused_even_when_leakage_is_accepted():
    columns = corpus()
    split = make_split(columns)
    columns["recording"] = [f"hash of {i}" for i in columns["id"]]
    check_split(split, columns)
    columns["recording"][columns["id"].index(split.test[0])] = f"hash of {split.train[0]}"
    with pytest.raises(ValueError, match=f"{split.train[0]} in train = {split.test[0]} in test"):
        check_split(split, columns, accept_speaker_leakage=True)


def test_a_clip_in_two_parts_is_refused():
    columns = corpus()
    split = make_split(columns)
    with pytest.raises(ValueError, match="1 clips are in two splits"):
        check_split(replace(split, dev=(*split.dev, split.train[0])), columns, accept_speaker_leakage=True)


def test_a_class_without_a_clip_in_train_is_an_error_that_names_it():
    columns = corpus()
    columns["emotion"] = [
        "نفرت" if speaker == "s00" else label
        for speaker, label in zip(columns["speaker"], columns["emotion"], strict=True)
    ]
    folds = dict(zip(sorted(columns["id"]), speaker_folds(read_clips(columns), 5, 42), strict=True))
    fold = folds["s00_00"]
    with pytest.raises(ValueError, match=r"""train holds no clip of نفرت.*--label_map '\{"نفرت": null\}'"""):
        make_split(columns, fold=fold)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "kfold"}, "--protocol kfold"),
        ({"fold": 5}, "--fold 5.*0 to 4"),
        ({"num_folds": 2}, "--num_folds 2.*needs 3 or more"),
        ({"protocol": "emobox_fold_1"}, "needs --splits_file"),
        ({"protocol": "given"}, "no clip is in train and none in test"),
        ({"protocol": "random_kfold", "splits_file": "x.json"}, "reads no file"),
    ],
)
def test_what_cannot_be_split_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_split(corpus(), **arguments)


def test_a_split_of_another_corpus_is_refused():
    with pytest.raises(ValueError, match=r"names 3 clips that the corpus lacks \(s00_00, s00_01, s00_02\)"):
        check_split(make_split(corpus()), {name: values[3:] for name, values in corpus().items()})


@pytest.mark.parametrize("protocol", ["given", "random_holdout", "emobox_fold_1", "nkululeko"])
def test_a_protocol_without_folds_has_one(protocol):
    assert num_folds_of(protocol, corpus()) == 1


def test_the_labels_of_a_class_label_column_are_read_by_name():
    import datasets

    columns = corpus()
    label = datasets.ClassLabel(names=list(LABELS))
    dataset = datasets.Dataset.from_dict(columns).cast_column("emotion", label)
    assert make_split(dataset) == make_split(columns)
    unused = datasets.Dataset.from_dict(columns).cast_column("emotion", datasets.ClassLabel(names=[*LABELS, "envy"]))
    with pytest.raises(ValueError, match="no clip of envy"):
        make_split(unused)


# ------------------------------------------------------------------------------------------------- given splits
def given(num_speakers: int = 12) -> dict[str, list]:
    columns = corpus(num_speakers)
    return columns | {"split": ["Test" if s in ("s00", "s01") else "training" for s in columns["speaker"]]}


def test_a_given_split_is_kept_and_its_missing_dev_is_cut_from_train_by_speakers():
    columns = given()
    split = make_split(columns, "given")
    assert speakers_in(split.test, columns) == {"s00", "s01"}
    assert split.dev
    assert split.speaker_independent
    assert any("names no dev" in note and "whole speakers" in note for note in split.notes)


def test_a_given_dev_is_kept():
    columns = given()
    columns["split"] = [
        "validation" if s == "s05" else part for s, part in zip(columns["speaker"], columns["split"], strict=True)
    ]
    split = make_split(columns, "given")
    assert speakers_in(split.dev, columns) == {"s05"}
    assert split.notes == ()


def test_clips_outside_a_given_split_are_counted():
    columns = given()
    columns["split"][0] = None
    assert "1 of the corpus's 216 clips are in no part of the split." in make_split(columns, "given").notes


def test_an_unknown_word_for_a_part_is_refused():
    columns = given()
    columns["split"][0] = "holdout"
    with pytest.raises(ValueError, match="'holdout' is none of train, dev"):
        make_split(columns, "given")


@pytest.mark.parametrize("form", ["splits.json", "one.csv", "one.jsonl", "pair.csv", "folder"])
def test_a_split_is_read_from_any_of_the_known_files(form, tmp_path):
    columns = given()
    expected = make_split(columns, "given")
    rows = [{"path": f"some/where/{i}.wav", "split": part} for part, ids in expected.parts.items() for i in ids]
    splits_file = str(tmp_path / form)
    if form == "splits.json":
        save_split(expected, splits_file)
    elif form == "one.jsonl":
        Path(splits_file).write_text("\n".join(map(json.dumps, rows)))
    elif form == "one.csv":
        write_csv(Path(splits_file), rows)
    else:
        paths = [tmp_path / f"my_{part}_list.csv" for part in expected.parts]
        for path, part in zip(paths, expected.parts, strict=True):
            write_csv(path, [{"file": row["path"], "emotion": "x"} for row in rows if row["split"] == part])
        splits_file = ",".join(map(str, paths)) if form == "pair.csv" else str(tmp_path)
    read = make_split(
        {name: values for name, values in columns.items() if name != "split"}, "given", 0, 5, 42, splits_file
    )
    assert read.parts == expected.parts


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_file_that_names_other_clips_is_refused(tmp_path):
    write_csv(tmp_path / "split.csv", [{"id": "nobody", "split": "train"}])
    with pytest.raises(ValueError, match="none of its 1 names is an id of the corpus: nobody, s00_00"):
        make_split(corpus(), "given", splits_file=str(tmp_path / "split.csv"))


def test_a_file_of_paths_places_clips_of_one_file_name_by_their_folders(tmp_path):
    columns = corpus() | {"id": [f"{i.split('_')[0]}/{i.split('_')[1]}" for i in corpus()["id"]]}
    rows = [
        {"path": f"/home/author/wav/{i}.wav", "split": "test" if i.startswith(("s00", "s01")) else "train"}
        for i in columns["id"]
    ]
    write_csv(tmp_path / "split.csv", rows)
    split = make_split(columns, "given", splits_file=str(tmp_path / "split.csv"))
    assert speakers_in(split.test, columns) == {"s00", "s01"}
    write_csv(tmp_path / "split.csv", [{"path": row["path"].split("/")[-1], "split": row["split"]} for row in rows])
    with pytest.raises(ValueError, match=r"--splits_file: '00' may be 's00/00' or 's01/00'"):
        make_split(columns, "given", splits_file=str(tmp_path / "split.csv"))


def test_a_row_whose_split_is_empty_puts_its_clip_in_no_part(tmp_path):
    columns = given()
    rows = [{"id": i, "split": part} for i, part in zip(columns["id"], columns["split"], strict=True)]
    path = tmp_path / "split.csv"
    write_csv(path, [{"id": rows[0]["id"], "split": ""}, *rows])
    assert make_split(columns, "given", splits_file=str(path)).parts == make_split(columns, "given").parts
    write_csv(path, [rows[0] | {"split": ""}, *rows[1:]])
    split = make_split(columns, "given", splits_file=str(path))
    assert "1 of the corpus's 216 clips are in no part of the split." in split.notes


def test_a_file_that_puts_a_clip_in_two_parts_is_refused(tmp_path):
    rows = [{"id": "s00_00", "split": "train"}, {"id": "s00_00", "split": "test"}]
    write_csv(tmp_path / "split.csv", rows)
    with pytest.raises(ValueError, match="s00_00 is in train and in test"):
        make_split(corpus(), "given", splits_file=str(tmp_path / "split.csv"))


# -------------------------------------------------------------------------------------------------- splits.json
def test_a_saved_split_comes_back(tmp_path):
    columns = corpus()
    split = make_split(columns)
    save_split(split, tmp_path / "run" / "splits.json", columns)
    assert load_split(tmp_path / "run" / "splits.json") == split
    table = json.loads((tmp_path / "run" / "splits.json").read_text())["clips_per_class"]
    assert sum(table["test"].values()) == len(split.test)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["splits.json"]


def test_a_saved_split_says_its_format_and_what_is_known_of_its_clips(tmp_path):
    columns = given()
    columns |= {"recording": [f"hash of {i}" for i in columns["id"]]}
    columns["split"][0] = None
    save_split(make_split(columns, "given"), tmp_path / "splits.json", columns)
    content = json.loads((tmp_path / "splits.json").read_text())
    assert content["format"] == 1
    assert content["clips"][0] == ["s00_01", "s00", "female", columns["emotion"][1], "hash of s00_01"]
    assert len(content["clips"]) == 215


def test_a_changed_split_is_not_loaded(tmp_path):
    split = make_split(corpus())
    path = tmp_path / "splits.json"
    save_split(split, path)
    content = json.loads(path.read_text())
    content["train"].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="it was changed after it was written"):
        load_split(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"train": []}'])
def test_a_file_that_is_no_split_is_named(text, tmp_path):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ValueError, match=r"splits\.json: (is not JSON|is not a splits\.json|holds a list)"):
        load_split(tmp_path / "splits.json")


def test_the_hash_is_that_of_ids_and_parts_alone():
    columns = corpus()
    split = make_split(columns)
    assert replace(split, notes=("x",)).sha256 == split.sha256 != make_split(columns, fold=1).sha256


def test_the_hash_is_that_of_a_text_that_anybody_can_write():
    split = Split("given", 0, 42, False, train=("b", "خشم"), dev=("c",), test=("a",), sha256="")
    text = '{"dev":["c"],"test":["a"],"train":["b","خشم"]}'
    assert split_hash(split) == hashlib.sha256(text.encode()).hexdigest()
    assert folds.fold_hash({"خشم": 1, "a": 0}) == hashlib.sha256('{"a":0,"خشم":1}'.encode()).hexdigest()


def test_several_folds_have_one_hash_and_one_fold_keeps_its_own():
    assert folds.hash_of_folds(["ab"]) == "ab"
    assert folds.hash_of_folds(["ab", "cd"]) == hashlib.sha256(b"abcd").hexdigest()


# -------------------------------------------------------------------------------------------------------- folds
def voices(*labels: str) -> dict[str, list]:
    """Columns of a corpus in which speaker number n says each label of `labels[n]` once, given by its first letter."""
    rows = [
        (f"s{number}_{row}", f"s{number}", label) for number, own in enumerate(labels) for row, label in enumerate(own)
    ]
    return dict(zip(("id", "speaker", "emotion"), map(list, zip(*rows, strict=True)), strict=True))


def folds_of(columns: dict[str, list], num_folds: int) -> dict[Clip, int]:
    clips = read_clips(columns)
    return dict(zip(clips, speaker_folds(clips, num_folds, 42), strict=True))


def test_three_speakers_are_enough_for_three_folds_however_many_were_asked_for():
    columns = voices("aj", "aj", "aj")
    assert num_folds_of("speaker_kfold", columns) == num_folds_of("speaker_kfold", columns, 3) == 3
    assert speakers_in(make_split(columns).test, columns) < {"s0", "s1", "s2"}


def test_too_few_speakers_for_the_folds_are_told_what_would_do():
    with pytest.raises(ValueError, match=r"--num_folds 4: the corpus has 3 speakers.*give --num_folds 3 or fewer"):
        speaker_folds(read_clips(voices("a", "a", "a")), 4, 42)
    with pytest.raises(ValueError, match=r"--num_folds 5: the corpus has 2 speakers.*that is too few to split by"):
        make_split(voices("aj", "aj"))


def test_random_folds_need_a_clip_for_each():
    assert sorted(folds.random_folds(read_clips(voices("ajaja")), 5, 42)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="--num_folds 5: the corpus has 4 clips"):
        folds.random_folds(read_clips(voices("ajaj")), 5, 42)


@pytest.mark.parametrize("seed", range(3))
def test_random_folds_hold_every_label_that_has_a_clip_for_each(seed):
    clips = read_clips(voices("aaaaajjjjj"))
    numbers = folds.random_folds(clips, 5, seed)
    assert {(clip.emotion, number) for clip, number in zip(clips, numbers, strict=True)} == {
        (label, number) for label in "aj" for number in range(5)
    }


def test_two_training_speakers_are_enough_for_a_dev_of_whole_speakers():
    columns = voices("aajj", "aajj", "aajj") | {"split": ["test"] * 4 + ["train"] * 8}
    split = make_split(columns, "given")
    assert len(speakers_in(split.dev, columns)) == len(speakers_in(split.train, columns)) == 1
    assert split.notes == ("The protocol names no dev: 4 of its 8 training clips are used as dev, 1 whole speakers.",)


def test_a_random_split_draws_its_dev_at_random_too():
    assert make_split(corpus(), "random_holdout").notes[0].endswith("drawn at random.")


def test_corpora_are_told_apart_only_where_there_are_two():
    assert folds.corpora_of([Clip("x", corpus="a"), Clip("y", corpus="a")]) == ()
    assert folds.corpora_of([Clip("x", corpus="a"), Clip("y")]) == [("a",), ("",)]


MANY = "abcdefghiklmnopq"


def test_a_class_with_a_speaker_for_every_fold_is_in_every_fold_before_anything_else_is_even():
    # Sixteen classes are even only where the last three speakers, the only ones with "j", share a fold.
    columns = voices(MANY * 3, MANY * 3, *[MANY + "j"] * 3)
    folds_of_j = {fold for clip, fold in folds_of(columns, 3).items() if clip.emotion == "j"}
    assert folds_of_j == {0, 1, 2}


def test_a_class_with_fewer_speakers_than_folds_comes_after_what_is_even():
    columns = voices(MANY * 2, MANY * 2, *[MANY + "j"] * 2)
    folds_of_j = {fold for clip, fold in folds_of(columns, 3).items() if clip.emotion == "j"}
    assert len(folds_of_j) == 1


def test_the_folds_of_a_corpus_stay_what_they_are():
    """A run is compared with those of other versions: a clip must not move from test to train in between."""
    draw = random.Random(7)
    columns = voices(*("".join(draw.choices("anfj", (6, 5, 1, 0.4), k=draw.randrange(4, 30))) for _ in range(14)))
    columns["gender"] = [("female", "male")[int(speaker[1:]) % 3 > 0] for speaker in columns["speaker"]]
    fold_of = {clip.speaker: fold for clip, fold in folds_of(columns, 4).items()}
    assert [fold_of[f"s{number}"] for number in range(14)] == [2, 1, 3, 3, 0, 2, 1, 0, 2, 0, 1, 3, 0, 2]
    # Speakers of the same clips may take each other's place; they do not.
    fold_of = {clip.speaker: fold for clip, fold in folds_of(voices(*["aj"] * 8), 4).items()}
    assert [fold_of[f"s{number}"] for number in range(8)] == [2, 0, 0, 2, 1, 1, 3, 3]


@pytest.mark.parametrize(("clips_each", "failures"), [(2, 2), (6, 78)])
def test_the_search_for_even_folds_gives_up_after_the_failures_it_may_have(clips_each, failures, monkeypatch):
    columns = corpus(8, clips_each)
    patient = folds_of(columns, 3)
    # It may fail so often for each of the eight speakers. The longest wait for a success here is `failures` draws.
    monkeypatch.setattr(folds, "_PATIENCE", failures / 8)
    assert folds_of(columns, 3) == patient
    monkeypatch.setattr(folds, "_PATIENCE", (failures - 1) / 8)
    assert folds_of(columns, 3) != patient


def test_the_command_that_freezes_folds_writes_and_prints_them(tmp_path, capsys):
    columns = voices(*["aajj"] * 5)
    columns |= {"gender": ["female"] * 20, "emotion_heard": list("aj" * 10)}
    with open(tmp_path / "index.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
    folds.main(str(tmp_path / "index.csv"), str(tmp_path / "folds.json"))
    assert json.loads((tmp_path / "folds.json").read_text()) == frozen_folds(columns)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [
        "fold 0: 1 speakers, {'female': 4}",
        "  emotion: {'a': 2, 'j': 2}",
        "  emotion_heard: {'a': 2, 'j': 2}",
    ]
    assert len(printed) == 15


# -------------------------------------------------------------------------------------------------------- ShEMO
@pytest.mark.parametrize("labels", ["emotion_filename", "emotion_modified"])
def test_frozen_folds_of_shemo_test_every_class_in_every_fold(shemo_meta_dir, labels):
    columns = shemo_columns(shemo_meta_dir, labels)
    table = json.loads(FROZEN.read_text())["clips_per_class"][labels]
    tested = []
    for fold in range(5):
        split = make_split(columns, "speaker_kfold", fold, splits_file=str(FROZEN))
        check_split(split, columns)
        label_of = dict(zip(columns["id"], columns["emotion"], strict=True))
        counts = Counter(label_of[i] for i in split.test)
        assert counts == table[fold]
        assert min(counts.values()) >= 4
        assert len(split.test) == pytest.approx(600, abs=10)
        tested += split.test
    assert len(tested) == len(set(tested)) == 3000


def test_the_frozen_file_is_what_its_command_makes(shemo_meta_dir):
    with open(shemo_meta_dir / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    made = frozen_folds({name: [row[name] for row in rows] for name in rows[0]})
    assert made == json.loads(FROZEN.read_text())


def test_both_label_sources_share_the_frozen_folds(shemo_meta_dir):
    splits = [
        make_split(shemo_columns(shemo_meta_dir, labels), splits_file=str(FROZEN))
        for labels in ("emotion_filename", "emotion_modified")
    ]
    assert splits[0] == splits[1]


def test_frozen_folds_take_a_corpus_with_a_class_dropped(shemo_meta_dir):
    columns = shemo_columns(shemo_meta_dir)
    keep = [row for row, label in enumerate(columns["emotion"]) if label != "fear"]
    columns = {name: [values[row] for row in keep] for name, values in columns.items()}
    split = make_split(columns, splits_file=str(FROZEN))
    assert "38 of the 3000 clips of the frozen folds are not in the corpus" in split.notes[0]


@pytest.mark.parametrize("num_folds", [5, 4])
def test_frozen_folds_of_another_corpus_are_not_applied_and_that_is_said(num_folds):
    split, plain = (make_split(corpus(), num_folds=num_folds, splits_file=file) for file in (str(FROZEN), None))
    assert split.parts == plain.parts
    assert len(split.notes) == 1
    assert "--splits_file: shemo_speaker_5fold.json is of another corpus and is not applied" in split.notes[0]
    assert split.notes[0] == unused_splits_file(corpus(), "speaker_kfold", str(FROZEN))
    nobody = corpus() | {"speaker": [None] * 264}
    assert make_split(nobody, num_folds=num_folds, splits_file=str(FROZEN)).protocol == "random_kfold"


def test_frozen_folds_refuse_a_corpus_they_half_know_another_number_and_a_changed_file(tmp_path, shemo_meta_dir):
    columns = shemo_columns(shemo_meta_dir)
    assert unused_splits_file(columns, "speaker_kfold", str(FROZEN)) is None
    columns["id"] = [f"other-{i}" if row % 2 else i for row, i in enumerate(columns["id"])]
    with pytest.raises(ValueError, match=r"lacks 1500 of 3000 clips .* and has the others"):
        make_split(columns, splits_file=str(FROZEN))
    with pytest.raises(ValueError, match=r"--num_folds 4: .* holds 5 folds"):
        make_split(columns, num_folds=4, splits_file=str(FROZEN))
    (tmp_path / "folds.json").write_text(FROZEN.read_text().replace('"F01A01"', '"F01A99"'))
    with pytest.raises(ValueError, match="was changed"):
        make_split(corpus(), splits_file=str(tmp_path / "folds.json"))


def test_emobox_is_reproduced_and_says_what_is_wrong_with_it(shemo_meta_dir):
    columns = shemo_columns(shemo_meta_dir)
    split = make_split(columns, "emobox_fold_1", splits_file=str(shemo_meta_dir))
    assert (len(split.train) + len(split.dev), len(split.test)) == (2131, 707)
    wrong = " ".join(what_is_wrong(split, columns))
    for fact in (
        "83 of the 83 test speakers are also in train",
        "fear (7 clips by 7 speakers)",
        "names no dev",
        "162 of the corpus's 3000 clips",
    ):
        assert fact in wrong
    with pytest.raises(ValueError, match="83 of the 83 test speakers"):
        check_split(split, columns)


def test_nkululeko_is_reproduced_and_says_what_is_wrong_with_it(shemo_meta_dir):
    columns = shemo_columns(shemo_meta_dir)
    files = f"{shemo_meta_dir}/nkululeko_train.csv,{shemo_meta_dir}/nkululeko_test.csv"
    split = make_split(columns, "nkululeko", splits_file=files)
    check_split(split, columns)
    assert speakers_in(split.test, columns) == {"M12", "M25", "F07", "F24"}
    wrong = " ".join(what_is_wrong(split, columns))
    assert "fear (2 clips by 1 speaker)" in wrong
    assert "test has 4 speakers" in wrong


def test_a_random_split_of_shemo_says_how_many_voices_it_shares(shemo_meta_dir):
    columns = shemo_columns(shemo_meta_dir)
    wrong = what_is_wrong(make_split(columns, "random_holdout"), columns)
    assert "79 of the 79 test speakers are also in train or dev." in wrong


# ---------------------------------------------------------------------------------------------------- protocols
PROTOCOL_FILES = sorted((ROOT / "configs" / "protocols").glob("*.yaml"))


@pytest.mark.parametrize("path", PROTOCOL_FILES, ids=lambda path: path.stem)
def test_every_protocol_file_splits_shemo_when_it_follows_a_configuration(path, shemo_meta_dir, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = yaml.safe_load((ROOT / "configs" / "shemo_hubert_base.yaml").read_text())
    before = {key: before[key] for key in ("protocol", "splits_file", "num_folds") if key in before}
    data = DataArguments(**before | yaml.safe_load(path.read_text()))
    columns = shemo_columns(shemo_meta_dir)
    merged = [data.parsed_label_map().get(label, label) for label in columns["emotion"]]
    keep = [row for row, label in enumerate(merged) if label is not None]
    columns = {name: [values[row] for row in keep] for name, values in columns.items()}
    # ShEMO has neither sessions nor corpora; any that hold whole speakers will do.
    columns |= {"session": [speaker[:2] for speaker in columns["speaker"]], "corpus": columns["gender"]}
    published = data.protocol in ("emobox_fold_1", "nkululeko")
    splits_file = str(shemo_meta_dir) if published else data.splits_file
    split = make_split(columns, data.protocol, 0, data.num_folds, data.split_seed, splits_file)
    check_split(split, columns, data.accept_speaker_leakage)


def test_every_protocol_but_the_users_own_has_a_file():
    used = {yaml.safe_load(path.read_text())["protocol"] for path in PROTOCOL_FILES}
    assert used == set(PROTOCOLS) - {"given"}


# ------------------------------------------------------------------------------------------------- several corpora
def joined() -> dict[str, list]:
    """Three corpora of unequal size under one roof."""
    columns: dict[str, list] = {name: [] for name in ("id", "speaker", "gender", "emotion", "corpus")}
    for name, speakers in (("a", 12), ("b", 6), ("c", 4)):
        own = corpus(speakers)
        columns["corpus"] += [name] * len(own["id"])
        for key in ("id", "speaker"):
            columns[key] += [f"{name}/{value}" for value in own[key]]
        for key in ("gender", "emotion"):
            columns[key] += own[key]
    return columns


def test_one_corpus_is_left_out_and_dev_is_made_of_speakers_of_the_others():
    columns, tested = joined(), []
    assert num_folds_of("leave_one_corpus_out", columns) == 3
    for fold, name in enumerate("abc"):
        split = make_split(columns, "leave_one_corpus_out", fold)
        assert {i[0] for i in split.test} == {name}
        assert name not in {i[0] for i in (*split.train, *split.dev)}
        assert split.speaker_independent
        assert not speakers_in(split.dev, columns) & speakers_in(split.train, columns)
        assert "used as dev" in split.notes[0]
        check_split(split, columns)
        tested += split.test
    assert sorted(tested) == sorted(columns["id"])


def test_one_corpus_trains_and_all_others_are_tested():
    columns = joined()
    split = make_split(columns, "train_on_one_corpus", fold=1)
    assert {i[0] for i in (*split.train, *split.dev)} == {"b"}
    assert {i[0] for i in split.test} == {"a", "c"}
    assert split.speaker_independent
    assert num_folds_of("train_on_one_corpus", columns) == 3


def test_a_single_corpus_cannot_be_left_out():
    columns = corpus() | {"corpus": ["a"] * len(corpus()["id"])}
    with pytest.raises(ValueError, match="leave_one_corpus_out: all clips are of one corpus"):
        make_split(columns, "leave_one_corpus_out")
    with pytest.raises(ValueError, match=r"Column 'corpus': .* name no corpus"):
        make_split(corpus(), "leave_one_corpus_out")


def test_folds_of_speakers_are_even_over_corpora_too():
    columns = joined()
    size = Counter(columns["corpus"])
    for fold in range(4):
        count = Counter(i[0] for i in make_split(columns, num_folds=4, fold=fold).test)
        for name in "abc":
            assert abs(count[name] - size[name] / 4) <= 0.5 * size[name] / 4


def test_the_folds_of_one_corpus_are_those_it_had_before_it_was_named():
    columns = corpus()
    named = columns | {"corpus": ["a"] * len(columns["id"])}
    assert make_split(named, fold=2).sha256 == make_split(columns, fold=2).sha256


def test_fewer_speakers_than_folds_give_a_fold_a_speaker_and_say_so():
    columns = {
        "id": [f"c{i}" for i in range(40)],
        "speaker": [f"s{i % 4}" for i in range(40)],
        "emotion": [("anger", "joy")[i // 4 % 2] for i in range(40)],
    }
    assert num_folds_of("speaker_kfold", columns, 10) == 4
    splits = [make_split(columns, "speaker_kfold", fold, 10) for fold in range(4)]
    assert sorted(clip for split in splits for clip in split.test) == sorted(columns["id"])
    assert all(split.speaker_independent for split in splits)
    assert "The corpus has 4 speakers, so there are 4 folds, not 10." in splits[0].notes
