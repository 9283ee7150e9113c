"""The rows of a table of predictions as arrays, with the unit that a bootstrap draws: a speaker or a clip."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ser.evaluation.least_errors import class_moments
from ser.evaluation.metrics import check_probabilities, label_positions
from ser.predictions import labels_of


def truth_and_probabilities(predictions: pd.DataFrame, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the true class of each row, int `[N]`, and the probabilities, float `[N, C]`.

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
        truth: Index of the true class, int `[N]`.
        probabilities: float `[N, C]`.
        seed: Training seed of each row as a number from 0, `[N]`.
        clip: Number of the clip, from 0, `[N]`.
        cluster: Number of the unit that a bootstrap draws, from 0, `[N]`: a speaker or a clip, with its rows of all
            seeds.
        unit: "speaker"; or "clip", when a speaker is unknown or all rows are of one speaker, who says nothing
            about others.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    seed: np.ndarray
    clip: np.ndarray
    cluster: np.ndarray
    unit: str

    @property
    def predicted(self) -> np.ndarray:
        """Index of the most probable class, `[N]`."""
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
    """Raises an error that names a clip that is tested twice under one seed and would count twice.

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
