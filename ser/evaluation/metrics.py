"""Scores of a set of predictions, from confusion matrices `[..., C, C]` (rows are truth, columns predictions).

Every function takes any number of leading axes, so the same lines score one run and thousands of resamples of it.
One rule for an empty ratio: 0/0 is `nan` here and `null` in `results.json`, never 0. It follows that

- UAR is the mean recall over the classes that occur in the truth, as scikit-learn's `balanced_accuracy_score`:
  a class without a clip says nothing about a model. `per_class[...]["support"]` shows which classes those are.
- macro-F1 is the mean over the classes that occur in the truth or in the predictions, as `f1_score(average="macro")`:
  predicting a class that is not there costs.
"""

import numpy as np

from ser.evaluation import calibration


def score(truth: np.ndarray, probabilities: np.ndarray, labels: list[str]) -> dict:
    """Every score of one set of clips, ready for JSON.

    Args:
        truth: Class of each clip, `[N]`: names out of `labels`, or their indices.
        probabilities: Probability of each class, `[N, C]`, rows summing to 1, columns in the order of `labels`.
        labels: Names of the classes.

    Returns:
        `uar`, `accuracy`, `macro_f1`, `weighted_f1`, `nll`, `brier`, `ece`, `classwise_ece`, `n`, `per_class`
        (`precision`, `recall`, `f1`, `support`, `ece` and `mean_score` by label) and `confusion` (counts, rows are
        truth). `mean_score` is the mean probability of the class, to compare with its share of the clips. Undefined
        values are `None`.

    Raises:
        ValueError: No clip, shapes that disagree, a label outside `labels`, or rows that are no probabilities.
    """
    truth = label_positions(truth, labels)
    probabilities = check_probabilities(probabilities, len(truth), labels)
    confusion = confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))
    scores, errors = score_confusion(confusion, labels), calibration.class_calibration_errors(probabilities, truth)
    for c, of_class in enumerate(scores["per_class"].values()):
        of_class |= {"ece": float(errors[c]), "mean_score": float(probabilities[:, c].mean())}
    return {
        **scores,
        "nll": calibration.negative_log_likelihood(probabilities, truth),
        "brier": calibration.brier_score(probabilities, truth),
        "ece": calibration.expected_calibration_error(probabilities, truth),
        "classwise_ece": float(errors.mean()),
    }


def score_confusion(confusion: np.ndarray, labels: list[str]) -> dict:
    """The part of `score` that needs only the predicted classes.

    Args:
        confusion: Counts, `[C, C]`, rows are truth.
        labels: Names of the classes.
    """
    columns = {"precision": precisions(confusion), "recall": recalls(confusion), "f1": f1_scores(confusion)}
    support = confusion.sum(axis=1)
    return {
        "uar": _plain(uar(confusion)),
        "accuracy": _plain(accuracy(confusion)),
        "macro_f1": _plain(macro_f1(confusion)),
        "weighted_f1": _plain(weighted_f1(confusion)),
        "n": int(confusion.sum()),
        "per_class": {
            label: {**{name: _plain(values[c]) for name, values in columns.items()}, "support": int(support[c])}
            for c, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }


def label_positions(truth: np.ndarray, labels: list[str]) -> np.ndarray:
    """Indices in `labels`, int64 `[N]`, of class names; indices are checked and returned.

    Raises:
        ValueError: No clip, or a class outside `labels`.
    """
    truth = np.asarray(truth)
    if truth.ndim != 1 or len(truth) == 0:
        raise ValueError(f"truth has shape {truth.shape}; expected one class for each of at least one clip")
    if np.issubdtype(truth.dtype, np.integer):
        strange = np.unique(truth[(truth < 0) | (truth >= len(labels))]).tolist()
        positions = truth.astype(np.int64)
    else:
        order = {label: position for position, label in enumerate(labels)}
        strange = sorted({str(name) for name in truth if name not in order})
        positions = np.array([order[name] for name in truth if name in order], dtype=np.int64)
    if strange:
        raise ValueError(f"truth holds {strange}, which labels {list(labels)} do not; score with the run's own labels")
    return positions


def check_probabilities(probabilities: np.ndarray, num_clips: int, labels: list[str]) -> np.ndarray:
    """`probabilities` as float64 `[N, C]` whose rows sum to 1 exactly, or an error that says what they are instead.

    Raises:
        ValueError: Another shape, a value that is not finite or negative, or a row whose sum is off by over 1e-3
            (half precision stays below that).
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (num_clips, len(labels)):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}; expected ({num_clips}, {len(labels)}), one row per "
            f"clip and one column for each of {list(labels)}"
        )
    sums = probabilities.sum(axis=1, keepdims=True)
    bad = ~np.isfinite(sums[:, 0]) | (probabilities < 0).any(axis=1) | (np.abs(sums[:, 0] - 1) > 1e-3)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"row {row} of the probabilities is {probabilities[row].tolist()} ({int(bad.sum())} such rows); expected "
            "finite values of 0 or more that sum to 1: apply softmax to logits first"
        )
    return probabilities / sums


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts, int64 `[C, C]`: row is the true class, column the predicted one, both as indices `[N]`."""
    cells = np.asarray(truth) * num_classes + np.asarray(predicted)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def recalls(confusion: np.ndarray) -> np.ndarray:
    """TP / (TP + FN) of every class, `[..., C]`; `nan` for a class absent from the truth."""
    return _ratio(_hits(confusion), confusion.sum(axis=-1))


def precisions(confusion: np.ndarray) -> np.ndarray:
    """TP / (TP + FP) of every class, `[..., C]`; `nan` for a class that is never predicted."""
    return _ratio(_hits(confusion), confusion.sum(axis=-2))


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of every class, `[..., C]`; `nan` for a class in neither truth nor predictions."""
    return _ratio(2 * _hits(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def uar(confusion: np.ndarray) -> np.ndarray:
    """Unweighted average recall in [0, 1], `[...]`: mean of `recalls` over the classes that occur in the truth."""
    return _mean(recalls(confusion))


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of clips that are right, in [0, 1], `[...]`; the field also writes WA, weighted accuracy."""
    return _ratio(_hits(confusion).sum(axis=-1), confusion.sum(axis=(-1, -2)))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean of `f1_scores`, `[...]`, over the classes that occur in the truth or in the predictions."""
    return _mean(f1_scores(confusion))


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean of `f1_scores`, `[...]`, weighted by the clips of each class in the truth."""
    support = confusion.sum(axis=-1)
    return _ratio((np.nan_to_num(f1_scores(confusion)) * support).sum(axis=-1), support.sum(axis=-1))


def concordance(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Concordance correlation coefficient in [-1, 1]; 1 only when every prediction equals its truth.

    CCC = 2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2), with moments over N: Lin, "A Concordance
    Correlation Coefficient to Evaluate Reproducibility", Biometrics 45, 1989. `nan` when both are one same constant.

    Args:
        truth: Annotated values, `[N]`.
        predicted: Predicted values, `[N]`.
    """
    return float(concordance_of_sums(concordance_terms(truth, predicted).sum(axis=0)))


def concordance_terms(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What each clip adds to the sums of `concordance_of_sums`, `[N, 6]`: 1, x, y, x^2, y^2, xy.

    x and y are taken from the mean truth, which leaves CCC as it is and keeps squares of large values from swallowing
    their differences.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    x, y = truth - truth.mean(axis=0), predicted - truth.mean(axis=0)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def concordance_of_sums(sums: np.ndarray) -> np.ndarray:
    """CCC from the sums of 1, x, y, x^2, y^2 and xy, `[..., 6]`, for any number of resamples at once."""
    clips = np.maximum(sums[..., 0], 1)
    mean_x, mean_y, square_x, square_y, product = (sums[..., i] / clips for i in range(1, 6))
    spread = square_x - mean_x**2 + square_y - mean_y**2 + (mean_x - mean_y) ** 2
    return _ratio(2 * (product - mean_x * mean_y), np.where(spread > 1e-24, spread, 0))


def score_regression(truth: np.ndarray, predicted: np.ndarray, dimensions: list[str]) -> dict:
    """CCC, mean absolute error and root mean square error of every dimension, ready for JSON.

    Args:
        truth: Annotated values, `[N, K]`, in the corpus' own units.
        predicted: Predicted values, `[N, K]`.
        dimensions: Names of the K columns, such as valence, arousal, dominance.

    Returns:
        `ccc` (mean over dimensions), `n`, and `per_dimension` with `ccc`, `mae` and `rmse` by name.

    Raises:
        ValueError: Shapes that disagree, or a value that is not finite.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.shape != predicted.shape or truth.ndim != 2 or truth.shape[1] != len(dimensions) or not len(truth):
        raise ValueError(
            f"truth has shape {truth.shape} and predictions {predicted.shape}; expected both [N, {len(dimensions)}] "
            f"for {list(dimensions)}"
        )
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise ValueError("truth or predictions hold a value that is not finite; leave those clips out or correct them")
    error = predicted - truth
    ccc = [concordance(truth[:, k], predicted[:, k]) for k in range(len(dimensions))]
    per_dimension = {
        name: {
            "ccc": _plain(ccc[k]),
            "mae": float(np.abs(error[:, k]).mean()),
            "rmse": float(np.sqrt((error[:, k] ** 2).mean())),
        }
        for k, name in enumerate(dimensions)
    }
    return {"ccc": _plain(_mean(np.array(ccc))), "n": len(truth), "per_dimension": per_dimension}


def _hits(confusion: np.ndarray) -> np.ndarray:
    """True positives of every class, `[..., C]`."""
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient; `nan` where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    missing = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator != 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined, without numpy's warning where nothing is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _plain(value: np.ndarray | float) -> float | None:
    """A Python float, or `None` for `nan`, which JSON does not know."""
    return float(value) if np.isfinite(value) else None
