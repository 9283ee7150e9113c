"""Chooses a layer of a frozen backbone and the regularisation of the head by cross-validation in train.

Each layer is scored with logistic regression (ridge regression for dimensions) by cross-validation over the speakers
of train. Dev and test are not used. The linear model replaces the head that is fitted afterwards: it needs a
twentieth of the time and prefers the same layers.

Classes are scored by the class-balanced log loss of held-out clips, not by UAR: on a few hundred clips the noise of
UAR is larger than the differences between settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation.metrics import concordance

# L2 penalties relative to the mean loss of a clip. The strongest comes first and wins a tie.
STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# The penalty if nothing was chosen.
USUAL_STRENGTH = 0.01
_INNER_FOLDS = 4
# Strengths that may be worse than the best before no weaker one is tried.
_PATIENCE = 2
_LOG_OF_NOTHING = float(np.log(1e-6))


@dataclass(frozen=True)
class Choice:
    """The choice, and the predictions behind it.

    Attributes:
        layer_mix: Number of a layer, or `all`.
        strength: One of `STRENGTHS`.
        score: The score of the held-out clips of train that decided: minus the class-balanced log loss, or the mean CCC
            of the dimensions.
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
        vectors: Pooled vectors of the training clips in each layer, `[N, L + 1, E]`.
        targets: Class indices `[N]`, or values `[N, D]`.
        rows: The same clips, with the columns `id` and `speaker`.
        labels: Names of the classes or dimensions.
        layers: The candidates: numbers of layers, and `all` for the concatenated vectors of all layers.

    Returns:
        The layer and strength with the best score; a tie goes to the lower layer and the stronger regularisation.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    targets = np.asarray(targets)
    folds = inner_folds(targets, rows["speaker"])
    # All layers together take longest, so they go first.
    order = sorted(layers, key=lambda layer: layer != "all")
    # Threads share the arrays, and linear algebra releases Python's lock. Threads inside of it would only block each
    # other on matrices of this size.
    with threadpool_limits(1):
        found = Parallel(n_jobs=-1, prefer="threads")(
            delayed(_best_strength)(matrix_of(vectors, layer), targets, folds, len(labels)) for layer in order
        )
    best = dict(zip(order, found, strict=True))
    chosen = max(layers, key=lambda layer: best[layer][0])
    score, strength, _ = best[chosen]
    tables = []
    for layer in layers:
        _, own_strength, outputs = best[layer]
        tables.append(_held_out_table(layer, own_strength, outputs, targets, rows, labels))
    return Choice(chosen, strength, score, pd.concat(tables, ignore_index=True))


def inner_folds(targets: np.ndarray, speakers: Sequence[str | None]) -> np.ndarray:
    """Inner fold of each clip, `[N]`: every speaker is in one fold, and classes are spread as evenly as possible.

    If a speaker is unknown, or there is only one, clips are assigned at random within classes.
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
    """The vectors of one layer, or the concatenated vectors of all layers, `[N, E]`."""
    return vectors.reshape(len(vectors), -1) if layer == "all" else vectors[:, int(layer)]


def _best_strength(
    matrix: np.ndarray, targets: np.ndarray, folds: np.ndarray, num_classes: int
) -> tuple[float, float, np.ndarray]:
    """Cross-validates the strengths on the vectors of a layer `[N, E]`.

    They are tried from the strongest on, until `_PATIENCE` are worse than the best; fits of the weakest take longest.

    Returns:
        The best score, its strength, and the outputs for the held-out clips: log probabilities `[N, C]`, or values.
    """
    held = [folds == fold for fold in range(int(folds.max()) + 1)]
    fits = [_fit_of(matrix, targets, rows, num_classes) for rows in held]
    tried: list[tuple[float, float, np.ndarray]] = []
    best = 0
    for strength in STRENGTHS:
        values = [fit(strength) for fit in fits]
        outputs = np.zeros((len(targets), *values[0].shape[1:]))
        for rows, found in zip(held, values, strict=True):
            outputs[rows] = found
        tried.append((_score(targets, outputs), strength, outputs))
        best = max(range(len(tried)), key=lambda index: tried[index][0])
        if len(tried) > best + _PATIENCE:
            break
    return tried[best]


def _fit_of(
    matrix: np.ndarray, targets: np.ndarray, held: np.ndarray, num_classes: int
) -> Callable[[float], np.ndarray]:
    """A function from a strength to the outputs for the held-out clips of one fold."""
    from sklearn.linear_model import LogisticRegression, Ridge

    inside, outside = standardised(matrix[~held], matrix[held])
    truth, count = targets[~held], int((~held).sum())
    if targets.ndim == 2:

        def values(strength: float) -> np.ndarray:
            return Ridge(alpha=strength * count).fit(inside, truth).predict(outside).reshape(len(outside), -1)

        return values
    # The solver stops by the gradient's largest component: nearly all of it on principal axes, a small part otherwise.
    tol = 1e-3 if inside.shape[1] < matrix.shape[1] else 1e-4
    model = LogisticRegression(class_weight="balanced", tol=tol, max_iter=1000, warm_start=True)

    def log_probabilities(strength: float) -> np.ndarray:
        # A class without training clips gets the lowest probability.
        outputs = np.full((len(outside), num_classes), _LOG_OF_NOTHING)
        if len(np.unique(truth)) == 1:
            outputs[:, truth[0]] = 0.0
            return outputs
        model.set_params(C=1 / (strength * count)).fit(inside, truth)
        outputs[:, model.classes_] = np.maximum(model.predict_log_proba(outside), _LOG_OF_NOTHING)
        return outputs

    return log_probabilities


def standardised(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardises both matrices `[N, E]` by the mean and deviation of the first.

    With twice as many dimensions as clips, or more, both are projected onto the principal axes of the first,
    `[N, rank]`: a linear model with an L2 penalty finds the same solution there, faster. The axes come from the
    products of clips with each other, whose squares need float64. With fewer dimensions the axes would take longer than
    what they save.
    """
    mean, deviation = inside.mean(0), inside.std(0)
    deviation = np.where(deviation > 1e-6 * np.abs(inside).max(0), deviation, 1.0)
    inside, outside = (inside - mean) / deviation, (outside - mean) / deviation
    if 2 * inside.shape[0] <= inside.shape[1]:
        dtype, inside, outside = inside.dtype, inside.astype(np.float64), outside.astype(np.float64)
        squares, axes = np.linalg.eigh(inside @ inside.T)
        kept = squares > len(squares) * np.finfo(np.float64).eps * squares[-1]
        lengths, axes = np.sqrt(squares[kept]), axes[:, kept]
        inside, outside = (axes * lengths).astype(dtype), (outside @ inside.T @ axes / lengths).astype(dtype)
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
