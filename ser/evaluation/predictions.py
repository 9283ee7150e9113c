"""The table of predictions: one row a clip, seed and fold, from which every figure of a run is computed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ser.evaluation.least_errors import class_moments
from ser.evaluation.metrics import check_probabilities, label_positions
from ser.names import speaker_cell, tidy

COLUMNS = ("id", "split", "seed", "fold", "speaker", "gender")
FILE_NAME = "predictions.parquet"
# What the model of all clips says of a few of them, beside the pooled folds' predictions, which are not its own.
FINAL_NAME = "final_predictions.parquet"


def read_predictions(run: str | Path) -> pd.DataFrame:
    """The predictions of a run, from its folder or from the file itself.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A column that every run writes is missing.
    """
    path = Path(run)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; expected the folder of a finished run, which run_ser.py with --do_predict writes"
        )
    predictions = pd.read_parquet(path)
    check_columns(predictions, path)
    # Whoever wrote the table: "unknown" is no speaker, and a blank behind a name makes no other one.
    named = predictions["speaker"].map(speaker_cell, na_action="ignore").astype(object)
    return predictions.assign(id=predictions["id"].map(tidy), speaker=named.where(named.notna(), None))


def read_own_predictions(run: str | Path) -> pd.DataFrame:
    """What the model in a run's folder said itself.

    Beside pooled folds lies a model of all clips, whose own predictions are of a few clips that it learned from.

    Raises:
        FileNotFoundError, ValueError: As of [`read_predictions`].
    """
    final = Path(run) / FINAL_NAME
    return read_predictions(final if final.is_file() else run)


def check_columns(predictions: pd.DataFrame, source: str | Path = "the predictions") -> None:
    """An error naming the columns that are missing.

    Raises:
        ValueError: One of `COLUMNS`, of the truth, or of the scores is missing.
    """
    missing = [column for column in COLUMNS if column not in predictions]
    if not missing and not labels_of(predictions) and not dimensions_of(predictions):
        missing = ["p_<label> and truth, or pred_<dimension> and truth_<dimension>"]
    if missing:
        raise ValueError(f"{source} lacks {missing}; it has {list(predictions.columns)}: predict again with run_ser.py")


def labels_of(predictions: pd.DataFrame) -> list[str]:
    """Class names in the model's order, out of the columns `p_<label>`; empty for a regression."""
    return [column[2:] for column in predictions if column.startswith("p_")] if "truth" in predictions else []


def dimensions_of(predictions: pd.DataFrame) -> list[str]:
    """Names of the regressed dimensions, out of the columns `pred_<dimension>`; empty for a classification."""
    return [column[5:] for column in predictions if column.startswith("pred_") and f"truth_{column[5:]}" in predictions]


def truth_and_probabilities(predictions: pd.DataFrame, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """True class of each row as a position, int `[N]`, and the probabilities, float `[N, C]`.

    Raises:
        ValueError: A label without a column, an unknown true class, or rows that are no probabilities.
    """
    absent = [label for label in labels if f"p_{label}" not in predictions]
    if absent:
        raise ValueError(f"the predictions hold classes {labels_of(predictions)}; expected also {absent}")
    probabilities = predictions[[f"p_{label}" for label in labels]].to_numpy(np.float64)
    truth = label_positions(predictions["truth"].to_numpy(), labels)
    return truth, check_probabilities(probabilities, len(predictions), labels)


@dataclass(frozen=True)
class Scored:
    """The rows of a table of predictions as arrays.

    Attributes:
        truth: True class as a position, int `[N]`.
        probabilities: float `[N, C]`.
        seed: Training seed of each row as a number from 0, `[N]`.
        clip: Number of the clip, from 0, `[N]`.
        cluster: Number of what may be drawn again as one, from 0, `[N]`: a speaker's rows, or a clip's, of all seeds.
        unit: "speaker"; or "clip", when a speaker is unknown or all rows are of one speaker, from whom nothing can be
            learnt about others.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    seed: np.ndarray
    clip: np.ndarray
    cluster: np.ndarray
    unit: str

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class as a position, `[N]`."""
        return self.probabilities.argmax(axis=1)

    @property
    def num_seeds(self) -> int:
        """Number of training seeds."""
        return int(self.seed.max()) + 1

    def confusions(self) -> np.ndarray:
        """Counts of each cluster under each seed, `[S, seeds, C, C]`, rows are truth."""
        num_classes = self.probabilities.shape[1]
        cells = np.ravel_multi_index(
            (self.cluster, self.seed, self.truth, self.predicted),
            shape := (int(self.cluster.max()) + 1, self.num_seeds, num_classes, num_classes),
        )
        return np.bincount(cells, minlength=np.prod(shape)).reshape(shape)

    def hits(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """How often each clip is right, mean over the seeds among some rows, `[clips]`; 0 for clips not among them."""
        clip, right = self.clip[rows], (self.predicted == self.truth)[rows]
        seen, hits = (np.bincount(clip, weights, minlength=self.clip.max() + 1) for weights in (None, right))
        return hits / np.maximum(seen, 1)

    def moments(self, values: np.ndarray | None = None) -> np.ndarray:
        """`least_errors.class_moments` of the clips, `[S, C, 3]`.

        Args:
            values: What each clip scored, `[clips]`; `hits` by default.
        """
        first = np.unique(self.clip, return_index=True)[1]
        values = self.hits() if values is None else values
        return class_moments(self.cluster[first], self.truth[first], values, self.probabilities.shape[1])


def scored(predictions: pd.DataFrame, labels: list[str]) -> Scored:
    """The arrays of a table of predictions.

    Raises:
        ValueError: No row, a label without a column, an unknown true class, or rows that are no probabilities.
    """
    truth, probabilities = truth_and_probabilities(predictions, labels)
    cluster, unit = cluster_codes(predictions)
    seed, clip = (np.unique(predictions[column], return_inverse=True)[1] for column in ("seed", "id"))
    return Scored(truth, probabilities, seed, clip, cluster, unit)


def cluster_codes(predictions: pd.DataFrame) -> tuple[np.ndarray, str]:
    """`Scored.cluster` and `Scored.unit` of a table of predictions."""
    speakers = predictions["speaker"]
    unit = "speaker" if speakers.notna().all() and speakers.nunique() > 1 else "clip"
    return pd.factorize(speakers if unit == "speaker" else predictions["id"])[0], unit


def check_once_per_seed(predictions: pd.DataFrame) -> None:
    """An error naming a clip that is tested twice under one seed, which would count it twice.

    Raises:
        ValueError: A repeated pair of id and seed.
    """
    repeated = predictions.loc[predictions.duplicated(["id", "seed"]), ["id", "seed"]]
    if len(repeated):
        name, seed = repeated.iloc[0]
        raise ValueError(
            f"clip {name!r} is tested more than once under seed {seed} ({len(repeated)} such rows); expected each clip "
            "once per seed: pool the folds of one protocol only"
        )
