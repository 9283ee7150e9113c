"""`ser audit`: planted leaks are caught, real ones are counted, and none is claimed where there is none."""

import csv
import io
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from ser.cli import app
from ser.data.audio import encode_wav
from ser.data.audit import audit, audit_files, audit_of_folds, audit_parts, what_is_wrong
from ser.data.clips import Clip
from ser.data.copies import Copies, copies_in
from ser.data.leaks import Pair, near_recordings, pairs_of_parts, searched_in_all
from ser.data.splits import check_split, make_split, save_split
from ser.evaluation.audit_words import audit_sentences
from ser_model import read_wave

RATE_HZ = 16_000


def run(*arguments: object):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def noise(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise whose colour changes ten times a second: as far from other clips as speech is."""
    random = np.random.default_rng(seed)
    blocks = [np.cumsum(random.normal(size=1600)) * random.uniform(0.2, 1) for _ in range(int(10 * seconds))]
    wave = np.concatenate([np.diff(block - block.mean(), prepend=0) for block in blocks]) + 0.01
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def as_mp3_at_half_level(wave: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, 0.5 * wave, RATE_HZ, format="MP3")
    return read_wave(file.getvalue())


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight clips by four speakers, and a manifest that splits them by speakers."""
    rows = []
    for number in range(8):
        speaker = number // 2
        soundfile.write(tmp_path / f"clip{number}.wav", noise(number), RATE_HZ)
        rows.append({"path": f"clip{number}.wav", "speaker": f"s{speaker}", "label": ("joy", "anger")[number % 2]})
        rows[-1] |= {"gender": ("female", "male")[speaker % 2], "split": ("train", "train", "dev", "test")[speaker]}
    write_manifest(tmp_path, rows)
    return tmp_path


def read_manifest(folder: Path) -> list[dict[str, str]]:
    with open(folder / "split.csv", newline="") as file:
        return list(csv.DictReader(file))


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    with open(folder / "split.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def add(folder: Path, name: str, wave: np.ndarray, **changed: str) -> None:
    """Adds a clip of a speaker of its own to test."""
    soundfile.write(folder / name, wave, RATE_HZ)
    row = read_manifest(folder)[0] | {"path": name, "speaker": "s9", "split": "test"} | changed
    write_manifest(folder, [*read_manifest(folder), row])


# ------------------------------------------------------------------------------------------------- planted leaks
def test_a_clean_split_is_called_clean(folder):
    result = run(folder / "split.csv", "--audio", folder)
    assert result.exit_code == 0
    assert "No leak was found." in result.output
    assert "No speaker is in two parts (train 2, dev 1, test 1)" in result.output
    assert "There are no identical recordings" in result.output
    assert "There are no near-identical recordings" in result.output


def test_a_renamed_clip_is_caught(folder):
    add(folder, "new_name.wav", read_wave(folder / "clip0.wav"))
    found = audit_files([str(folder / "split.csv")], str(folder), read_wave)
    assert not found["ok"]
    (pair,) = found["identical_audio"]
    assert {pair["first"], pair["second"]} == {"clip0", "new_name"}
    assert found["near_identical_audio"] == []
    assert run(folder / "split.csv", "--audio", folder).exit_code == 1


def test_a_clip_at_minus_6_db_through_mp3_is_caught(folder):
    add(folder, "new_name.wav", as_mp3_at_half_level(read_wave(folder / "clip0.wav")))
    found = audit_files([str(folder / "split.csv")], str(folder), read_wave)
    assert found["identical_audio"] == []
    (pair,) = found["near_identical_audio"]
    assert (pair["first_part"], pair["first"], pair["second_part"], pair["second"]) == (
        "train",
        "clip0",
        "test",
        "new_name",
    )
    result = run(folder / "split.csv", "--audio", folder)
    assert result.exit_code == 1
    assert "1 nearly identical recordings are in two parts (clip0 in train = new_name in test)" in result.output


def test_a_shared_speaker_is_caught(folder):
    add(folder, "clip9.wav", noise(9), speaker="s0")
    result = run(folder / "split.csv")
    assert result.exit_code == 1
    assert "1 of the 2 test speakers are also in train." in result.output


def test_a_clip_in_two_parts_is_caught(folder):
    rows = read_manifest(folder)
    write_manifest(folder, [*rows, rows[0] | {"split": "test"}])
    result = run(folder / "split.csv")
    assert result.exit_code == 1
    assert "1 clips are in two parts (clip0)" in result.output


def test_a_clip_whose_split_is_empty_is_in_no_part_and_leaks_nothing(folder):
    rows = read_manifest(folder)
    write_manifest(folder, [*rows[:1], rows[1] | {"split": ""}, *rows[2:]])
    found = audit_files([str(folder / "split.csv")])
    assert found["leaks"] == []
    assert {part: table["clips"] for part, table in found["parts"].items()} == {"train": 3, "dev": 2, "test": 2}
    assert "1 of 8 clips are in no part: their split is empty." in found["warnings"]


def thirty_speakers(parts: tuple[str, ...]) -> list[dict[str, str]]:
    """Two clips of each of thirty speakers, under the same two file names; the speakers take turns in the parts."""
    return [
        {"path": f"spk{n}/00{clip}.wav", "speaker": f"spk{n}", "label": "joy", "split": parts[n % len(parts)]}
        for n in range(30)
        for clip in range(2)
    ]


@pytest.mark.parametrize("root", ["", "/home/somebody/corpus/"])
def test_clips_of_one_file_name_in_folders_of_speakers_are_told_apart(root, tmp_path):
    rows = [row | {"path": root + row["path"]} for row in thirty_speakers(("train", "test"))]
    write_manifest(tmp_path, rows)
    found = audit_files([str(tmp_path / "split.csv")])
    assert found["leaks"] == []
    assert {part: table["clips"] for part, table in found["parts"].items()} == {"train": 30, "dev": 0, "test": 30}
    write_manifest(tmp_path, [*rows[:-1], rows[-1] | {"split": "train"}])
    found = audit_files([str(tmp_path / "split.csv")])
    assert found["leaks"] == ["1 of the 15 test speakers are also in train."]


def test_recordings_of_one_file_name_are_found_by_their_folders(tmp_path):
    rows = thirty_speakers(("train", "test"))[:8]
    for number, row in enumerate(rows):
        path = tmp_path / "audio" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(number), RATE_HZ)
    write_manifest(tmp_path, [row | {"path": f"elsewhere/{row['path']}"} for row in rows])
    found = audit_files([str(tmp_path / "split.csv")], str(tmp_path / "audio"), read_wave)
    assert found["identical_audio"] == []
    assert found["leaks"] == []
    write_manifest(tmp_path, [row | {"path": row["path"].split("/")[1]} for row in rows[:1]])
    result = run(tmp_path / "split.csv", "--audio", tmp_path / "audio")
    assert result.exit_code == 2
    assert "'000' may be 'spk0/000.wav' or 'spk1/000.wav'" in result.output


@pytest.mark.parametrize("other", ["s0 ", "S0", "S00", "s0\u200e"])
def test_a_speaker_in_another_spelling_does_not_pass_as_another(other, folder):
    add(folder, "clip9.wav", noise(9), speaker=other)
    result = run(folder / "split.csv")
    if other.strip(" \u200e") == "s0":
        assert "1 of the 2 test speakers are also in train." in result.output
        return
    assert result.exit_code == 2
    assert f"{other!r} and 's0'" in result.output
    assert run(folder / "split.csv", "--speakers-differ").exit_code == 0


def test_words_for_nobody_are_no_speaker(folder):
    rows = read_manifest(folder)
    for row, word in zip(rows, ("NaN", "None", "unknown", "n/a", "Unknown ", "null", "nan", "?"), strict=True):
        row["speaker"] = word
    write_manifest(folder, rows)
    found = audit_files([str(folder / "split.csv")])
    assert found["checked"]["speakers"] is False
    assert found["parts"]["train"]["clips_without_speaker"] == 4


def test_labels_in_two_spellings_are_refused_with_the_map_that_joins_them(folder):
    rows = read_manifest(folder)
    write_manifest(folder, [rows[0] | {"label": "Joy"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"'Joy' \(1 clips\) and 'joy' .*--label_map '\{\"Joy\": \"joy\""):
        audit_files([str(folder / "split.csv")])


def test_a_copy_within_one_part_is_no_leak(folder):
    add(folder, "new_name.wav", read_wave(folder / "clip0.wav"), split="train")
    assert audit_files([str(folder / "split.csv")], str(folder), read_wave)["ok"]


def test_training_refuses_a_renamed_clip_in_a_prepared_corpus(folder):
    add(folder, "new_name.wav", read_wave(folder / "clip0.wav"))
    dataset = prepared(folder)
    split = make_split(dataset, "given")
    with pytest.raises(ValueError, match="1 recordings are in two parts under two names"):
        check_split(split, dataset, accept_speaker_leakage=True)
    assert audit(split, dataset)["identical_audio"]
    assert any("identical recordings" in sentence for sentence in what_is_wrong(split, dataset))


def test_training_refuses_a_copy_1_db_quieter_under_another_speaker_unless_told_that_it_is_none(folder):
    quieter = read_wave(folder / "clip0.wav") * 10 ** (-1 / 20)
    add(folder, "new_name.wav", quieter.astype(np.float32))
    dataset = prepared(folder)
    split = make_split(dataset, "given")
    with pytest.raises(ValueError, match=r"\(clip0 in train = new_name in test\).*--accept_near_copies"):
        check_split(split, dataset)
    check_split(split, dataset, accept_near_copies=True)
    found = audit(split, dataset)
    assert found["ok"] is False
    assert found["near_identical_audio"][0]["second"] == "new_name"
    assert any("1 nearly identical recordings" in sentence for sentence in what_is_wrong(split, dataset))
    assert audit_of_folds([split], dataset)["ok"] is False


def test_an_audit_says_neither_yes_nor_no_where_nobody_looked(folder):
    dataset = prepared(folder)
    split = make_split(dataset, "given")
    assert audit(split, dataset)["ok"] is True
    assert audit(split, dataset.remove_columns("audio"))["ok"] is None
    assert audit(split, dataset.remove_columns("speaker"))["ok"] is None
    pooled = audit_of_folds([split, split], dataset)
    assert pooled["ok"] is True
    assert all(pooled["checked"].values())


def ten_speakers() -> dict[str, list]:
    """The columns of 400 clips, four classes evenly over ten speakers of either gender."""
    clips = [(speaker, number) for speaker in range(10) for number in range(40)]
    return {
        "id": [f"s{speaker}c{number}" for speaker, number in clips],
        "speaker": [f"s{speaker}" for speaker, _ in clips],
        "gender": [("female", "male")[speaker % 2] for speaker, _ in clips],
        "emotion": [("anger", "fear", "joy", "neutral")[number % 4] for _, number in clips],
    }


def test_folds_that_are_pooled_are_not_blamed_for_what_is_too_small_in_each():
    columns = ten_speakers()
    folds = [make_split(columns, "leave_one_speaker_out", fold) for fold in range(10)]
    assert all("its score rests on few people" in " ".join(what_is_wrong(fold, columns)) for fold in folds)
    pooled = audit_of_folds(folds, columns)
    assert {key: pooled[key] for key in ("ok", "leaks", "warnings", "what_is_wrong")} == {
        "ok": None,  # nobody could look into the recordings
        "leaks": [],
        "warnings": [],
        "what_is_wrong": [],
    }


def test_folds_that_are_pooled_say_what_was_looked_for_in_each_of_them():
    columns = ten_speakers()
    columns["recording"] = columns["id"]
    folds = [make_split(columns, "speaker_kfold", fold, 5) for fold in range(5)]
    for pooled in (audit_of_folds(folds, columns), audit_of_folds(folds[:1], columns)):
        assert pooled["checked"] == audit(folds[0], columns)["checked"]
        assert pooled["shared_speakers"]["train/test"]["shared"] == 0
        told = [sentence for _, sentence in audit_sentences(pooled)]
        assert "No speaker is in two parts." in told
        assert "There are no identical recordings in two parts." in told
        assert "Nobody looked for identical recordings." not in told
    leaky = [make_split(columns, "random_kfold", fold, 5) for fold in range(5)]
    assert audit_of_folds([*leaky, folds[0]], columns)["shared_speakers"]["train/test"]["shared"] > 0


def test_a_leak_in_every_fold_is_said_once_with_the_number_of_folds():
    columns = ten_speakers()
    folds = [make_split(columns, "random_kfold", fold) for fold in range(5)]
    pooled = audit_of_folds(folds, columns)
    assert pooled["ok"] is False
    assert pooled["leaks"] == [
        "10 of the 10 test speakers are also in train or dev.",
        "10 of the 10 dev speakers are also in train.",
        "5 of 5 folds leak; the lines above are about the first of them.",
    ]


def test_pooled_folds_show_the_worst_of_each_and_count_as_checked_only_where_all_were():
    def found(shared, speakers, heard=True):
        return {
            "checked": {"speakers": True, "identical_audio": heard},
            "shared_speakers": {"train/test": {"shared": shared, "speakers": speakers}},
            "identical_audio": [f"pair of {speakers[0]}"],
            "near_identical_audio": [],
        }

    pooled = searched_in_all([found(1, ["a"]), found(2, ["b"], heard=False), found(2, ["c"]), found(0, ["d"])])
    assert pooled == {
        "checked": {"speakers": True, "identical_audio": False},
        "shared_speakers": {"train/test": {"shared": 2, "speakers": ["b"]}},
        "identical_audio": ["pair of a", "pair of b", "pair of c", "pair of d"],
        "near_identical_audio": [],
    }


def test_clips_that_sound_the_same_are_a_leak_only_in_two_parts():
    parts = {"train": ["a", "b"], "test": ["c"]}
    assert near_recordings(parts, [("a", "b", 0.1), ("c", "a", 0.2)]) == [Pair("train", "a", "test", "c", 0.2)]


def test_train_and_test_are_compared_first_and_folds_in_their_order():
    assert pairs_of_parts(("train", "dev", "test")) == [("train", "test"), ("train", "dev"), ("dev", "test")]
    assert pairs_of_parts(("fold 1", "fold 0")) == [("fold 1", "fold 0")]


def test_one_fold_under_several_seeds_is_blamed_for_what_it_is():
    columns = ten_speakers()
    fold = make_split(columns, "leave_one_speaker_out", 0)
    assert audit_of_folds([fold], columns)["what_is_wrong"] == what_is_wrong(fold, columns) != []


def prepared(folder: Path):
    """The manifest's clips as `data_prep.py` stores them."""
    import datasets

    rows = read_manifest(folder)
    columns = {"id": [Path(row["path"]).stem for row in rows], "emotion": [row["label"] for row in rows]}
    columns |= {name: [row[name] for row in rows] for name in ("speaker", "gender", "split")}
    columns["audio"] = [{"bytes": encode_wav(read_wave(folder / row["path"])), "path": row["path"]} for row in rows]
    dataset = datasets.Dataset.from_dict(columns).cast_column("emotion", datasets.ClassLabel(names=["anger", "joy"]))
    return dataset.cast_column("audio", datasets.Audio(sampling_rate=RATE_HZ))


# ---------------------------------------------------------------------------------------------- published splits
def test_emobox_has_83_of_83_test_speakers_in_train(shemo_meta_dir):
    result = run(*(shemo_meta_dir / f"emobox_{part}_fold_1.jsonl" for part in ("train", "test")))
    assert result.exit_code == 1
    assert "83 of the 83 test speakers are also in train." in result.output


def test_nkululeko_shares_no_speaker_and_tests_two_clips_of_fear(shemo_meta_dir):
    result = run(*(shemo_meta_dir / f"nkululeko_{part}.csv" for part in ("train", "test")), "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert found["shared_speakers"] == {"train/test": {"shared": 0, "of": 4, "speakers": []}}
    assert found["parts"]["test"]["clips_per_class"]["fear"] == 2
    assert found["too_small"] == [{"part": "test", "class": "fear", "clips": 2, "speakers": 1}]


def test_the_frozen_folds_share_no_speaker():
    frozen = Path(__file__).parents[2] / "configs" / "splits" / "shemo_speaker_5fold.json"
    result = run(frozen)
    assert result.exit_code == 0
    assert "No speaker is in two parts (fold 0 16," in result.output


@pytest.fixture(scope="module")
def emodb(emodb_dir) -> tuple[dict[str, list], Copies]:
    """Columns of EMO-DB's clips, and the copies among them."""
    paths = sorted((emodb_dir / "wav").glob("*.wav"))
    waves = {path.stem: read_wave(path) for path in paths}
    columns = {"id": list(waves), "speaker": [i[:2] for i in waves], "emotion": [i[5] for i in waves]}
    return columns, copies_in(waves.items())


def test_nothing_is_claimed_in_emodbs_leave_one_speaker_out_folds(emodb):
    columns, copies = emodb
    clips = [Clip(i, speaker=i[:2]) for i in columns["id"]]
    folds = defaultdict(list)
    for i in columns["id"]:
        folds[f"fold {i[:2]}"].append(i)
    assert len(folds) == 10
    assert audit_parts(folds, clips, copies)["ok"] is True


def test_random_folds_of_emodb_leak_voices_and_no_recording(emodb):
    columns, copies = emodb
    split = make_split(columns, "random_kfold")
    clips = [Clip(i, speaker=i[:2]) for i in columns["id"]]
    found = audit_parts(split.parts, clips, copies)
    assert found["leaks"] == [
        "10 of the 10 test speakers are also in train or dev.",
        "10 of the 10 dev speakers are also in train.",
    ]


# ------------------------------------------------------------------------------------------------------- warnings
def parts_of(columns: dict[str, tuple[int, str, str]]):
    """Parts of clips given as `{part: (number, gender, emotion)}`, each clip by a speaker of its own."""
    clips, parts = [], {}
    for part, (number, gender, emotion) in columns.items():
        parts[part] = [f"{part}{row}" for row in range(number)]
        clips += [Clip(i, speaker=i, gender=gender, emotion=emotion) for i in parts[part]]
    return audit_parts(parts, clips, Copies({}))


def test_a_small_class_an_uneven_part_and_a_missing_dev_are_warned_of():
    found = parts_of({"train": (30, "female", "joy"), "dev": (0, "female", "joy"), "test": (19, "male", "joy")})
    assert found["ok"] is None
    assert found["warnings"] == [
        "There is no dev.",
        "test has classes too small to score alone: joy (19 clips by 19 speakers).",
        "train is uneven: 0 of its 30 clips are male.",
        "test is uneven: 0 of its 19 clips are female.",
    ]


def test_a_class_with_clips_and_speakers_enough_is_not_called_small():
    assert parts_of({"train": (30, "female", "joy"), "test": (20, "male", "joy")})["too_small"] == []


def test_a_class_that_test_lacks_is_named():
    found = parts_of({"train": (30, "female", "joy"), "test": (25, "male", "anger")})
    assert "test has no clip of joy." in found["warnings"]


def test_unknown_speakers_are_said_to_be_unknown(folder):
    rows = read_manifest(folder)
    write_manifest(folder, [{key: row[key] for key in ("path", "label", "split")} for row in rows])
    result = run(folder / "split.csv")
    assert result.exit_code == 0
    assert "8 of 8 clips name no speaker: whether speakers are shared is unknown." in result.output
    assert json.loads(run(folder / "split.csv", "--json").output)["checked"]["speakers"] is False


def test_a_runs_splits_json_holds_all_that_its_audit_needs(folder):
    dataset = prepared(folder)
    split = make_split(dataset, "given")
    save_split(split, folder / "splits.json", dataset)
    found = audit_files([str(folder / "splits.json")])
    assert found["ok"] is None
    assert found["checked"] == {"speakers": True, "identical_audio": True, "near_identical_audio": False}
    assert found["parts"] == audit(split, dataset)["parts"]


# ------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no such split file"),
        ("train.txt", "x", "splits are read from .json, .jsonl, .csv, .tsv, .parquet, .xlsx and"),
        ("train.json", "x", "is not JSON"),
        ("train.json", "{}", "it lacks the lists train, dev, test"),
        ("train.jsonl", '{"id": "a"}\n[1', "line 2 is not JSON"),
        ("train.csv", "", "is empty"),
        ("train.csv", "name,label\na,b\n", "has no column for the clip"),
        ("list.csv", "id,label\na,b\n", "no column 'split'"),
    ],
)
def test_a_file_that_is_no_split_gets_one_line_and_exit_code_2(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = run(tmp_path / name)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_recordings_that_are_not_there_are_said_to_be_missing(folder):
    (folder / "clip0.wav").unlink()
    warnings = audit_files([str(folder / "split.csv")], str(folder), read_wave)["warnings"]
    assert any("1 of 8 recordings are not in" in sentence and "clip0" in sentence for sentence in warnings)
    (folder / "empty").mkdir()
    result = run(folder / "split.csv", "--audio", folder / "empty")
    assert result.exit_code == 2
    assert "none of the 8 of the split" in result.output


def test_debug_shows_the_traceback(tmp_path):
    assert isinstance(run(tmp_path / "none.csv", "--debug").exception, FileNotFoundError)


def test_the_command_starts_without_heavy_imports():
    heavy = "{'numpy', 'torch', 'transformers', 'datasets', 'sklearn', 'matplotlib', 'pandas'}"
    code = f"import sys, ser.cli; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
