"""The table of predictions, one row for each clip, seed and fold. Every figure of a run is computed from it.

Columns: `id`, `split` (dev or test), `seed`, `fold`, `speaker`, `gender`, `duration` in seconds and, where it is known,
`corpus`. A classification also has `truth` and `p_<label>` for each class, in the model's order. A regression has
`truth_<dimension>` and `pred_<dimension>` for each dimension.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ser.files import draft_of
from ser.names import speaker_cell, tidy
from ser.run_folder import FINAL_PREDICTIONS, PREDICTIONS, predictions_file

# Columns that every table must have.
COLUMNS = ("id", "split", "seed", "fold", "speaker", "gender")


def prediction_table(
    rows: Any, outputs: np.ndarray, targets: np.ndarray, labels: list[str], **run: Any
) -> pd.DataFrame:
    """One row for each clip: id, speaker, gender, duration, corpus, truth and the probability of each class.

    Args:
        rows: The clips: a Dataset with the columns id, speaker, gender, duration and, if known, corpus.
        outputs: Logits `[N, C]`, or values `[N, D]` of a regression.
        targets: Class indices `[N]`, or values `[N, D]` of a regression.
        labels: Names of classes or dimensions.
        run: Constant columns: split, seed, fold.
    """
    table = pd.DataFrame({"id": rows["id"], **run})
    for column in ("speaker", "gender", "duration", *(["corpus"] if "corpus" in rows.column_names else [])):
        table[column] = rows[column]
    if targets.ndim == 2:
        for index, name in enumerate(labels):
            table[f"truth_{name}"] = targets[:, index].astype(np.float64)
            table[f"pred_{name}"] = outputs[:, index].astype(np.float64)
        return table
    table["truth"] = [labels[index] for index in targets]
    probabilities = softmax(outputs)
    for index, name in enumerate(labels):
        table[f"p_{name}"] = probabilities[:, index]
    return table


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `[B, C]` in float64 from logits `[B, C]`."""
    logits = np.asarray(logits, dtype=np.float64)
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def write_predictions(tables: list[pd.DataFrame], folder: Path, name: str = PREDICTIONS) -> pd.DataFrame:
    """Writes tables into a run's folder as one Parquet file and returns them joined."""
    table = pd.concat(tables, ignore_index=True).sort_values(["seed", "fold", "split", "id"], ignore_index=True)
    with draft_of(folder / name) as draft:
        table.to_parquet(draft, index=False)
    return table


def read_predictions(run: str | Path) -> pd.DataFrame:
    """The predictions of a run, from its folder or from the file itself.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or a column that every run writes is missing.
    """
    path = predictions_file(run)
    try:
        predictions = pd.read_parquet(path)
    except (pa.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path}: is not a Parquet file ({' '.join(str(error).split())}); make it again.") from None
    check_columns(predictions, path)
    # Tables of other programs: "unknown" is no speaker, and spaces around a name are not part of it.
    named = predictions["speaker"].map(speaker_cell, na_action="ignore").astype(object)
    return predictions.assign(id=predictions["id"].map(tidy), speaker=named.where(named.notna(), None))


def read_own_predictions(run: str | Path) -> pd.DataFrame:
    """The predictions of the model that the folder itself holds.

    With pooled folds this is the model of all clips; its own predictions cover a few clips of its training set.

    Raises:
        FileNotFoundError, ValueError: As [`read_predictions`].
    """
    final = Path(run) / FINAL_PREDICTIONS
    return read_predictions(final if final.is_file() else run)


def check_columns(predictions: pd.DataFrame, source: str | Path = "the predictions") -> None:
    """Checks that no column is missing.

    Raises:
        ValueError: One of `COLUMNS`, of the truth, or of the scores is missing.
    """
    missing = [column for column in COLUMNS if column not in predictions]
    if not missing and not labels_of(predictions) and not dimensions_of(predictions):
        missing = ["p_<label> and truth, or pred_<dimension> and truth_<dimension>"]
    if missing:
        raise ValueError(f"{source} lacks {missing}; it has {list(predictions.columns)}: predict again with run_ser.py")


def labels_of(predictions: pd.DataFrame) -> list[str]:
    """Class names in the model's order, from the columns `p_<label>`; empty for a regression."""
    return [column[2:] for column in predictions if column.startswith("p_")] if "truth" in predictions else []


def dimensions_of(predictions: pd.DataFrame) -> list[str]:
    """Names of the dimensions, from the columns `pred_<dimension>`; empty for a classification."""
    return [column[5:] for column in predictions if column.startswith("pred_") and f"truth_{column[5:]}" in predictions]


def test_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test set."""
    return predictions[predictions["split"] == "test"]
