"""Which layer of a frozen backbone to take, and how strongly to regularise its head: chosen inside train.

Every layer is tried with logistic regression (ridge regression for dimensions) by cross-validation over the speakers
of train. Dev and test play no part in it. A linear model stands for the head that is fitted afterwards: it takes a
twentieth of the time, and both like the same layers.

Classes are judged by the log loss of held-out clips, every class counting the same, and not by UAR: a clip changes its
class all at once, so that UAR of a few hundred clips jumps about by more than the settings differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation.metrics import concordance

# Weight of half the squared weights beside the mean loss of a clip, the strongest first, which wins a tie.
STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# For a head whose strength nothing chose.
USUAL_STRENGTH = 0.01
_INNER_FOLDS = 4
_LOG_OF_NOTHING = float(np.log(1e-6))


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it was chosen from.

    Attributes:
        layer_mix: Number of a layer, or `all`.
        strength: One of `STRENGTHS`.
        score: What decided: minus the log loss, every class counting the same, or the mean CCC of dimensions, of the
            held-out clips of train.
        held_out: One row for each clip and layer, with the best strength of that layer: `layer`, `strength`, `id`,
            `speaker`, `truth`, `predicted`; a column `truth_<name>` and `predicted_<name>` for each dimension.
    """

    layer_mix: int | str
    strength: float
    score: float
    held_out: pd.DataFrame


def choose_layer(
    vectors: np.ndarray,
    targets: np.ndarray,
    rows: Any,
    labels: Sequence[str],
    layers: Sequence[int | str],
) -> Choice:
    """Cross-validates every layer and strength over the speakers of train.

    Args:
        vectors: Pooled vectors of each layer of the clips of train, `[N, L + 1, E]`.
        targets: Class numbers `[N]`, or values `[N, D]`.
        rows: The same clips, with the columns `id` and `speaker`.
        labels: Names of the classes or dimensions.
        layers: What to choose from: numbers of layers, and `all` for every layer's vector side by side.

    Returns:
        The layer and strength with the best score; of equal ones the lower layer and the stronger regularisation.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    targets = np.asarray(targets)
    folds = inner_folds(targets, rows["speaker"])
    jobs = [(layer, fold) for layer in layers for fold in range(int(folds.max()) + 1)]
    # Threads: the arrays are shared, and linear algebra runs outside of Python's lock. Its own threads would only wait
    # for each other on matrices of this size.
    with threadpool_limits(1):
        outputs = Parallel(n_jobs=-1, prefer="threads")(
            delayed(_held_out_outputs)(matrix_of(vectors, layer), targets, folds == fold, len(labels))
            for layer, fold in jobs
        )
    by_layer: dict[int | str, np.ndarray] = {}
    for (layer, fold), values in zip(jobs, outputs, strict=True):
        table = by_layer.setdefault(layer, np.zeros((len(STRENGTHS), len(targets), *values.shape[2:])))
        table[:, folds == fold] = values
    best: tuple[float, int | str, float] | None = None
    tables = []
    for layer, values in by_layer.items():
        scores = [_score(targets, outputs) for outputs in values]
        index = int(np.argmax(scores))
        tables.append(_held_out_table(layer, STRENGTHS[index], values[index], targets, rows, labels))
        if best is None or scores[index] > best[0]:
            best = (scores[index], layer, STRENGTHS[index])
    return Choice(best[1], best[2], float(best[0]), pd.concat(tables, ignore_index=True))


def inner_folds(targets: np.ndarray, speakers: Sequence[str | None]) -> np.ndarray:
    """Number of the inner fold of each clip, `[N]`: no speaker in two, classes spread as evenly as that allows.

    Clips are dealt out at random, within classes, where a speaker is not known or there is one alone.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    known = None not in set(speakers) and len(set(speakers)) > 1
    count = min(_INNER_FOLDS, len(set(speakers)) if known else len(targets))
    options: dict[str, Any] = {"n_splits": max(2, count), "shuffle": True, "random_state": 0}
    if targets.ndim == 2 or np.bincount(targets).max() < options["n_splits"]:
        splitter = GroupKFold(**options) if known else KFold(**options)
    else:
        splitter = StratifiedGroupKFold(**options) if known else StratifiedKFold(**options)
    folds, strata = np.zeros(len(targets), int), targets if targets.ndim == 1 else np.zeros(len(targets))
    for number, (_, held) in enumerate(splitter.split(strata, strata, list(speakers) if known else None)):
        folds[held] = number
    return folds


def matrix_of(vectors: np.ndarray, layer: int | str) -> np.ndarray:
    """The vectors of one layer, or of all side by side, `[N, E]`."""
    return vectors.reshape(len(vectors), -1) if layer == "all" else vectors[:, layer]


def _held_out_outputs(matrix: np.ndarray, targets: np.ndarray, held: np.ndarray, num_classes: int) -> np.ndarray:
    """Outputs for the held-out clips under each strength: log probabilities `[S, H, C]`, or values `[S, H, D]`."""
    from sklearn.linear_model import LogisticRegression, Ridge

    inside, outside = standardised(matrix[~held], matrix[held])
    truth, count = targets[~held], int((~held).sum())
    if targets.ndim == 2:
        models = (Ridge(alpha=strength * count).fit(inside, truth) for strength in STRENGTHS)
        return np.stack([model.predict(outside).reshape(len(outside), -1) for model in models])
    outputs = np.full((len(STRENGTHS), len(outside), num_classes), _LOG_OF_NOTHING)
    if len(np.unique(truth)) == 1:
        outputs[:, :, truth[0]] = 0.0
        return outputs
    model = LogisticRegression(class_weight="balanced", tol=1e-3, max_iter=300, warm_start=True)
    for index, strength in enumerate(STRENGTHS):
        model.set_params(C=1 / (strength * count)).fit(inside, truth)
        # A class that no clip to learn from has is as good as excluded.
        outputs[index][:, model.classes_] = np.maximum(model.predict_log_proba(outside), _LOG_OF_NOTHING)
    return outputs


def standardised(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices `[N, E]` by the mean and deviation of the first.

    Where there are more dimensions than clips, both are turned into the space that the clips of the first span,
    `[N, rank]`: a linear model with squared weights finds the same solution there, in less time.
    """
    mean, deviation = inside.mean(0), inside.std(0)
    deviation = np.where(deviation > 1e-6 * np.abs(inside).max(0), deviation, 1.0)
    inside, outside = (inside - mean) / deviation, (outside - mean) / deviation
    if inside.shape[0] < inside.shape[1]:
        basis, _ = np.linalg.qr(inside.T)
        inside, outside = inside @ basis, outside @ basis
    return inside, outside


def _score(targets: np.ndarray, outputs: np.ndarray) -> float:
    if targets.ndim == 2:
        return float(np.mean([concordance(targets[:, k], outputs[:, k]) for k in range(targets.shape[1])]))
    found = outputs[np.arange(len(targets)), targets]
    return float(np.mean([found[targets == label].mean() for label in np.unique(targets)]))


def _held_out_table(
    layer: int | str, strength: float, outputs: np.ndarray, targets: np.ndarray, rows: Any, labels: Sequence[str]
) -> pd.DataFrame:
    table = pd.DataFrame({"layer": str(layer), "strength": strength, "id": rows["id"], "speaker": rows["speaker"]})
    if targets.ndim == 2:
        for index, name in enumerate(labels):
            table[f"truth_{name}"], table[f"predicted_{name}"] = targets[:, index], outputs[:, index]
        return table
    names = np.asarray(labels, dtype=object)
    return table.assign(truth=names[targets], predicted=names[outputs.argmax(axis=1)])
