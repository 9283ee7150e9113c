"""Damage that once ended in the traceback of a library, case by case: now one line that names file and place."""

import json
import os
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes.fake_corpora import serving, touch
from fakes.tiny import tiny_model

import ser_model
from ser.data.corpora.archives import names_in
from ser.data.corpora.recordings import Corpus, Recording
from ser.data.corpora.sources import source_of
from ser.data.corpora.table import list_corpus
from ser.data.data_arguments import DataArguments
from ser.data.split_files import frozen_folds_of, read_split_file
from ser.data.splits import load_split
from ser.files import held_by_this_process
from ser.inference.loading import load_pipeline
from ser.predictions import read_predictions
from ser.training.arguments import parse_arguments
from ser.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]


def refused(read, *words: str) -> None:
    """Checks that an error has one line with these words in it."""
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read()
    assert type(error.value) is ValueError
    for word in words:
        assert word in str(error.value)


def written(folder: Path, name: str, content: object) -> Path:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


@pytest.mark.parametrize(
    "value", ["2001-99-99", "!!int x", "!!float x", "!!timestamp x", "!!python/object:os.system x", "'", "&a [*b]"]
)
def test_a_value_of_yaml_that_python_cannot_make_is_named_with_its_line(tmp_path, value):
    path = written(tmp_path, "c.yaml", f"corpus: emodb\nseed: {value}\n")
    refused(lambda: read_yaml(path), "c.yaml: is not YAML: line ")


@pytest.mark.parametrize(
    "flags",
    [
        ("--augmentations", "x"),
        ("--augmentations", "[" * 100_000),
        ("--backbone_config", '{"num_hidden_layers": [2]}'),
        ("--backbone_config", "[" * 100_000),
        ("--label_map", "[" * 100_000),
    ],
    ids=lambda flags: f"{flags[0]} {flags[1][:20]}",
)
def test_json_in_a_flag_that_is_damaged_is_named_by_its_flag(tmp_path, flags):
    given = ["--corpus", "emodb", "--output_dir", str(tmp_path / "x"), "--freeze_layers", "1", *flags]
    refused(lambda: parse_arguments(given), flags[0])


WHOLE = {"train": ["a"], "dev": ["b"], "test": ["c"], "notes": [], "protocol": "given", "fold": 0, "seed": 1}
WHOLE |= {"speaker_independent": True, "sha256": ""}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": [1]}, "`train` holds '1'"),
        ({"train": None}, "`train` is 'None'"),
        ({"dev": ["\ud800"]}, "`dev` holds"),
        ({"clips": [["a", "s"]]}, "`clips[0]` is"),
        ({"clips": None}, "`clips[0]` is 'None'"),
    ],
)
def test_a_split_with_a_value_of_another_kind_is_named_with_its_key(tmp_path, change, words):
    path = written(tmp_path, "splits.json", WHOLE | change)
    refused(lambda: read_split_file(path), "splits.json", words)
    if "clips" not in change:
        refused(lambda: load_split(path), "splits.json", words)


@pytest.mark.parametrize("folds", [None, [None], [["a", ["b"]]], [{"a": 1}], "ab"])
def test_frozen_folds_that_are_no_lists_of_ids_are_named_with_their_key(tmp_path, folds):
    path = written(tmp_path, "folds.json", {"folds": folds, "sha256": ""})
    refused(lambda: frozen_folds_of([], str(path), 3), "folds.json", "`folds[")


def test_a_split_nested_too_deeply_is_named(tmp_path):
    path = written(tmp_path, "splits.json", '{"train": ' + "[" * 100_000)
    refused(lambda: load_split(path), "splits.json: is not JSON")
    refused(lambda: read_split_file(path), "splits.json: is not JSON")


@pytest.mark.parametrize("entry", ["anger", {"emotion": 3}, {"emotion": "anger", "transcript": "\ud800"}])
def test_a_corrected_label_that_is_no_text_is_named_with_its_file(tmp_path, entry):
    touch(tmp_path, "F01A01.wav")
    path = written(tmp_path, "labels.json", {"F01A01.wav": entry})
    options = {"corpus": "shemo", "data_dir": str(tmp_path), "modified_labels": str(path), "label_source": "modified"}
    refused(lambda: list_corpus(DataArguments(**options)), "labels.json", "'F01A01.wav'")


def test_a_zip_with_a_damaged_directory_and_a_member_that_is_encrypted_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("F01A01.wav", b"sound" * 100)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    directory = data.index(b"PK\x01\x02")
    encrypted = bytearray(data)
    for position in (6, directory + 8):  # the flags of the member, and those in the directory
        encrypted[position : position + 2] = struct.pack("<H", 1)
    (tmp_path / "a.zip").write_bytes(encrypted)
    corpus = Corpus({}, root=tmp_path)
    refused(lambda: source_of(Recording("F01A01", "F01A01.wav", archive="a.zip"), corpus), "a.zip", "encrypted")
    data[directory : directory + 4] = b"PK\x09\x09"
    (tmp_path / "a.zip").write_bytes(data)
    refused(lambda: names_in(tmp_path / "a.zip", "Download it again."), "a.zip: is a damaged zip", "Download it again.")


FORKER = """
import os, sys, time
from ser.files import held_by_this_process
with held_by_this_process(sys.argv[1], "--output_dir: x"):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked on POSIX")
def test_a_killed_run_can_be_given_again_while_its_workers_still_live(tmp_path):
    lock = tmp_path / "run" / ".lock"
    process = subprocess.Popen([sys.executable, "-c", FORKER, str(lock)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(BlockingIOError, match=f"in use by another run: process {process.pid} "):
            held_by_this_process(lock, "--output_dir: x").__enter__()
        process.kill()
        process.wait(20)
        os.kill(worker, 0)  # it lives
        with held_by_this_process(lock, "--output_dir: x"):
            pass
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)


def test_predictions_that_are_no_table_are_named(tmp_path):
    path = written(tmp_path, "predictions.parquet", "PAR1 no table PAR1")
    refused(lambda: read_predictions(tmp_path), str(path), "is not a Parquet file")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.safetensors", b"\xff" * 100),
        ("model.safetensors", b""),
        ("preprocessor_config.json", b"\xff"),
        ("preprocessor_config.json", b"[]"),
    ],
)
def test_a_model_with_a_damaged_file_is_named(tmp_path, name, data):
    folder = tiny_model(tmp_path / "model")
    (folder / name).write_bytes(data)
    refused(lambda: load_pipeline(str(folder)), f"--model: {folder}")


def test_a_model_with_a_value_of_another_kind_in_its_configuration_is_named(tmp_path):
    folder = tiny_model(tmp_path / "model")
    whole = json.loads((folder / "config.json").read_text())
    for key, value in (("pooling", ["mean"]), ("layer_mix", []), ("model_type", {}), ("classifier_proj_size", [])):
        written(folder, "config.json", whole | {key: value})
        refused(lambda: load_pipeline(str(folder)), f"--model: {folder}")


def test_a_download_by_the_pipeline_is_bounded(monkeypatch):
    monkeypatch.setattr(ser_model, "_DOWNLOAD_BYTES", 1000)
    with serving({"/a.wav": bytes(5000)}) as (address, _):
        refused(lambda: list(ser_model.open_audio(f"{address}/a.wav")[1]), f"{address}/a.wav", "more than")
