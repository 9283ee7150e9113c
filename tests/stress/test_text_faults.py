"""Damaged configurations, manifests, splits, results, labels and zips: each is taken, or refused in one line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from fakes import fake_run
from fakes.fake_corpora import touch
from fakes.tiny import tiny_model
from fakes.tiny_runs import TINY
from hypothesis import strategies as st
from stress.damage import EACH_SIZE, EACH_SIZE_HEAVY, check_each, damaged_bytes, damaged_content, json_bytes, outcome

from ser.data.clips import Clip
from ser.data.corpora import shemo
from ser.data.corpora.download import Published
from ser.data.corpora.sources import source_of
from ser.data.corpora.table import list_corpus
from ser.data.data_arguments import DataArguments, read_data_arguments
from ser.data.folds import fold_hash
from ser.data.split_files import frozen_folds_of, given_parts, read_frozen, read_split_file
from ser.data.splits import load_split, make_split, save_split
from ser.evaluation.report import write_report
from ser.evaluation.runs_table import runs_below
from ser.inference.loading import load_pipeline
from ser.training.arguments import parse_arguments

pytestmark = pytest.mark.slow

NAMES = ("F01A01", "F01N02", "M02S03", "M02H04", "F03W05", "F03F06")


# ------------------------------------------------------------------------------------------------------- configurations
CONFIG = TINY | {"output_dir": "runs/x", "label_map": {"a": "b"}, "augmentations": [{"name": "Gain", "p": 0.5}]}


# Values that only YAML has: dates that do not exist, tags, anchors, other numbers, wide and nested lists.
SNIPPETS = (
    *("2001-99-99", "2001-02-30T25:61:00Z", "!!binary $", "!!python/object:os.system x", "!!timestamp x", "!!int x"),
    *(
        "!!float x",
        "!!set {a, b}",
        "!!omap [a]",
        "!!pairs [a]",
        "&a [*a]",
        "&a {x: *a}",
        "*b",
        "0b",
        "0x",
        "0o8",
        "1:99",
    ),
    *(
        "_",
        "-._",
        ".inf",
        ".nan",
        "? [a]",
        "[a]: b",
        "{[a]: b}",
        "{{a: b}: c}",
        "|",
        ">-",
        "<<",
        "%TAG",
        "---",
        "...",
        "@a",
    ),
    *(
        "[" * 5000,
        "- " * 500,
        "\u2028",
        "\ufeff",
        "\x85",
        "'",
        '"',
        '"\\x"',
        '"\\ud800"',
        "9" * 5000,
        "1e999999",
        "=",
        "~",
    ),
)


def with_snippets(content: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A configuration in which the value of a key, or the key, is something that only YAML has."""
    keys, snippets = st.sampled_from(sorted(content)), st.sampled_from(SNIPPETS)
    rest = as_yaml({"corpus": "emodb", "output_dir": "runs/x"}).decode()
    as_value = st.builds(lambda key, value: f"{rest}{key}: {value}\n", keys, snippets)
    as_key = st.builds(lambda key, value: f"{rest}{value}: {key}\n", keys, snippets)
    return (as_value | as_key).map(str.encode)


def as_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


@EACH_SIZE
def test_a_damaged_configuration_is_taken_or_refused_in_one_line(tmp_path, count, figure):
    path = tmp_path / "damaged.yaml"

    def check(data: bytes) -> str:
        path.write_bytes(data)
        whole = outcome(lambda: parse_arguments([str(path)]), path.name, "--")
        outcome(lambda: read_data_arguments([str(path)]), path.name, "--")
        return whole

    # Only keys of ours: those of transformers may start a profiler or ask for another machine.
    damage = damaged_content(CONFIG).map(as_yaml) | damaged_bytes(as_yaml(CONFIG)) | with_snippets(CONFIG)
    check_each("configurations (YAML)", damage, check, count, figure)


# ------------------------------------------------------------------------------------------------------------ manifests
ROWS = [
    {"path": f"{name}.wav", "label": label, "speaker": name[:3], "start": 0.5, "end": 1.5, "split": "train", "v": 0.1}
    for name, label in zip(NAMES, ("anger", "neutral") * 3, strict=True)
]


def as_csv(rows: Any) -> bytes:
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    lines = [list(ROWS[0]), *(row.values() for row in rows)]
    return "\n".join(",".join(str(cell) for cell in line) for line in lines).encode("utf-8", "surrogatepass")


def as_lines(rows: Any) -> bytes:
    return b"\n".join(json_bytes(row) for row in rows) if isinstance(rows, list) else json_bytes(rows)


def as_parquet(rows: Any) -> bytes:
    for content in (rows, ROWS):  # not all content of JSON fits into Parquet
        sink = pa.BufferOutputStream()
        try:
            pyarrow.parquet.write_table(pa.Table.from_pylist(content), sink)
            break
        except (pa.ArrowException, LookupError, TypeError, AttributeError, ValueError, OverflowError):
            continue
    return sink.getvalue().to_pybytes()


@EACH_SIZE
@pytest.mark.parametrize(
    ("suffix", "as_file"), [(".csv", as_csv), (".jsonl", as_lines), (".json", json_bytes), (".parquet", as_parquet)]
)
def test_a_damaged_manifest_is_taken_or_refused_in_one_line(tmp_path, suffix, as_file, count, figure):
    path = tmp_path / f"damaged{suffix}"
    touch(tmp_path, *(row["path"] for row in ROWS))

    def check(data: bytes) -> str:
        path.write_bytes(data)
        options = {"corpus": "manifest", "manifest": str(path)}
        outcome(lambda: list_corpus(DataArguments(**options, target_columns="v")), path.name, "--")
        return outcome(lambda: list_corpus(DataArguments(**options)).key(), path.name, "--")

    damage = damaged_content(ROWS).map(as_file) | damaged_bytes(as_file(ROWS))
    check_each(f"manifests ({suffix})", damage, check, count // 4 + 10, figure)


# --------------------------------------------------------------------------------------------------------------- splits
CLIPS = [Clip(f"{n}{i}", speaker=f"s{n}", emotion=("a", "b")[i % 2]) for n in range(6) for i in range(4)]
COLUMNS = {name: [getattr(clip, name) for clip in CLIPS] for name in ("id", "speaker", "gender", "emotion")}


def our_split(tmp_path: Path) -> Any:
    path = tmp_path / "whole.json"
    save_split(make_split(COLUMNS, num_folds=3), path, None)
    table = [[clip.id, clip.speaker, None, clip.emotion, "0"] for clip in CLIPS]
    return json.loads(path.read_text()) | {"clips": table}


def frozen_folds() -> Any:
    fold_of = {clip.id: int(clip.speaker[1]) % 3 for clip in CLIPS}
    return {"folds": [[i for i, own in fold_of.items() if own == n] for n in range(3)], "sha256": fold_hash(fold_of)}


@EACH_SIZE
@pytest.mark.parametrize("suffix", [".json", ".csv", ".jsonl"])
def test_a_damaged_split_is_taken_or_refused_in_one_line(tmp_path, suffix, count, figure):
    path = tmp_path / f"damaged{suffix}"
    rows = [{"id": clip.id, "split": ("train", "dev", "test")[i % 3]} for i, clip in enumerate(CLIPS)]
    contents = [our_split(tmp_path), frozen_folds()] if suffix == ".json" else [rows]
    as_file = {".json": json_bytes, ".csv": as_split_csv, ".jsonl": as_lines}[suffix]
    doors = {
        "given": lambda: given_parts(CLIPS, str(path), "given"),
        "read": lambda: read_split_file(path),
        "folds": lambda: frozen_folds_of(CLIPS, str(path), 3),
        "frozen": lambda: read_frozen(path),
        "load": lambda: load_split(path),
    }

    def check(data: bytes) -> str:
        path.write_bytes(data)
        return {name: outcome(door, path.name, "--splits_file") for name, door in doors.items()}["read"]

    damages = [damaged_content(content).map(as_file) | damaged_bytes(as_file(content)) for content in contents]
    check_each(f"splits ({suffix})", st.one_of(damages), check, count // 3 + 10, figure)


def as_split_csv(rows: Any) -> bytes:
    return as_csv(rows).replace(b",".join(key.encode() for key in ROWS[0]), b"id,split")


# -------------------------------------------------------------------------------------------------------------- results
@EACH_SIZE
def test_damaged_results_are_reported_or_refused_in_one_line(tmp_path, count, figure):
    folder = made_run(tmp_path)
    path = folder / "results.json"
    whole = json.loads(path.read_text())

    def check(data: bytes) -> str:
        path.write_bytes(data)
        outcome(lambda: runs_below(folder), path.name)
        return outcome(lambda: write_report(folder), path.name)

    damage = damaged_content(whole).map(json_bytes) | damaged_bytes(json_bytes(whole))
    check_each("results.json, by `ser report` and `ser runs`", damage, check, count // 4, figure)


@EACH_SIZE_HEAVY
@pytest.mark.parametrize("name", ["predictions.parquet", "training_log.json", "splits.json"])
def test_damaged_files_beside_the_results_are_reported_or_refused_in_one_line(tmp_path, name, count, figure):
    folder = made_run(tmp_path)
    path = folder / name
    save_split(make_split(COLUMNS, num_folds=3), folder / "splits.json", None)
    load = (lambda: write_report(folder), path.name)
    check_each(f"{name}, by `ser report`", damage_of(path), rewritten(path, *load), count // 10 + 3, figure)


def damage_of(path: Path) -> Any:
    """Damage to the bytes of a file, and to the values of a JSON file."""
    whole = path.read_bytes()
    damage = damaged_bytes(whole)
    return damage | damaged_content(json.loads(whole)).map(json_bytes) if path.suffix == ".json" else damage


def rewritten(path: Path, read: Callable[[], Any], named: str) -> Callable[[bytes], str]:
    """A check that writes a file and then reads it."""

    def check(data: bytes) -> str:
        path.write_bytes(data)
        return outcome(read, named)

    return check


def made_run(tmp_path: Path) -> Path:
    tables = fake_run.predictions(), fake_run.LABELS, fake_run.context(), fake_run.training_log()
    return fake_run.write_run(tmp_path / "run", *tables)


# --------------------------------------------------------------------------------------------------------------- models
@EACH_SIZE
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_damaged_model_is_loaded_or_refused_in_one_line(tmp_path, name, count, figure):
    folder = tiny_model(tmp_path / "model")
    path = folder / name
    load = (lambda: load_pipeline(str(folder)), str(folder))
    check_each(f"{name}, by `ser predict`", damage_of(path), rewritten(path, *load), count // 4, figure)


# --------------------------------------------------------------------------------------------------- ShEMO's own files
TABLE = {f"{name}.wav": {"emotion": "anger", "transcript": "salam", "ipa": "s"} for name in NAMES}


@EACH_SIZE
def test_damaged_corrected_labels_are_taken_or_refused_in_one_line(tmp_path, count, figure):
    touch(tmp_path, *TABLE)
    path = tmp_path / "labels.json"
    options = {"corpus": "shemo", "data_dir": str(tmp_path), "label_source": "modified", "modified_labels": str(path)}

    def check(data: bytes) -> str:
        path.write_bytes(data)
        return outcome(lambda: list_corpus(DataArguments(**options)).key(), path.name)

    damage = damaged_content(TABLE).map(json_bytes) | damaged_bytes(json_bytes(TABLE))
    check_each("corrected labels (JSON)", damage, check, count, figure)


@EACH_SIZE
def test_a_damaged_zip_is_read_or_named_and_no_member_leaves_the_folder(tmp_path, monkeypatch, count, figure):
    inside, path = tmp_path / "inside", tmp_path / "inside" / "female.zip"
    inside.mkdir()
    members = [f"{name}.wav" for name in NAMES if name[0] == "F"]
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "a" if path.exists() else "w", compression) as archive:
            archive.writestr(f"{compression}/{members[compression % 3]}", b"sound" * 100)
            archive.writestr(f"../../{compression}/{members[1]}", b"sound" * 100)
    data = path.read_bytes()

    def check(changed: bytes) -> str:
        path.write_bytes(changed)
        # Any file of the right size is taken for the published one until it is needed, when its hash is checked.
        monkeypatch.setitem(shemo.ARCHIVES, path.name, Published(("https://x.org",), len(changed), "0" * 64))
        found = {outcome(lambda: read_members(inside), path.name)}
        assert sorted(tmp_path.rglob("*")) == [inside, path]
        return "named" if "named" in found else "taken"

    check_each("ShEMO's zips", damaged_bytes(data), check, count, figure)


def read_members(folder: Path) -> None:
    corpus = list_corpus(DataArguments(corpus="shemo", data_dir=str(folder)))
    for recording in corpus.recordings:
        try:
            assert len(source_of(recording, corpus)) < 2**20
        except ValueError as error:
            raise ValueError(f"{corpus.recordings[0].archive}: {error}") from None
