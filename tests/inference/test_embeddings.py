"""`ser predict --embeddings`: the vectors of the pipeline, in a file that pandas or NumPy reads."""

import numpy as np
import pandas as pd
import pytest
from fakes.cli_runs import ser
from fakes.tiny import tiny_stock_model

NAMES = ("a.wav", "b/b.flac", "b/c.ogg", "d.WAV", "e.mp3")


def test_a_parquet_file_holds_ids_and_the_vectors_of_the_pipeline_also_of_a_long_recording(classify, clips, model_dir):
    path = clips.parent / "vectors.parquet"
    result = ser(clips, "--model", model_dir, "--embeddings", path)
    assert result.exit_code == 0
    assert result.stdout.strip() == f"{path}: 5 vectors of 48 values"
    table = pd.read_parquet(path)
    assert table["id"].tolist() == ["a", "b", "c", "d", "e"]
    assert table["file"].tolist() == [str(clips / name) for name in NAMES]
    for name, vector in zip(NAMES, table["embedding"], strict=True):
        expected = classify(clips / name, return_embedding=True)
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_a_npy_file_has_a_row_for_each_recording_and_nan_for_what_could_not_be_used(classify, clips, model_dir):
    (clips / "b" / "broken.wav").write_text("no audio")
    path = clips.parent / "vectors.npy"
    result = ser(clips, "--model", model_dir, "--embeddings", path, "--batch-seconds", "10")
    assert result.exit_code == 1
    assert "broken.wav" in result.stderr
    table = np.load(path)
    assert table.shape == (6, 48)
    assert np.isnan(table).all(axis=1).tolist() == [False, False, True, False, False, False]
    np.testing.assert_allclose(table[0], classify(clips / "a.wav", return_embedding=True), atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--embeddings", "v.csv"), "--embeddings: v.csv must end in .parquet or .npy"),
        (("--embeddings", "v.npy", "--timeline"), "--timeline: --embeddings writes vectors"),
        (("--embeddings", "v.npy", "--format", "csv"), "--format: --embeddings writes vectors"),
    ],
)
def test_what_does_not_go_with_vectors_is_refused_before_a_model_is_loaded(clips, flags, words):
    result = ser(clips / "a.wav", "--model", "nowhere", *flags)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_file_that_exists_is_kept(clips, model_dir):
    path = clips / "vectors.npy"
    path.write_bytes(b"mine")
    result = ser(clips / "a.wav", "--model", model_dir, "--embeddings", path)
    assert result.exit_code == 2
    assert "--embeddings" in result.stderr
    assert path.read_bytes() == b"mine"


def test_a_model_without_pooled_vectors_is_refused_in_words(clips, tmp_path):
    stock = tiny_stock_model(tmp_path / "stock")
    result = ser(clips / "a.wav", "--model", stock, "--embeddings", tmp_path / "v.npy")
    assert result.exit_code == 2
    assert "has no pooled vector" in result.stderr
