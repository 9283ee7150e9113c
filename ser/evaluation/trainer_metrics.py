"""The scores as `evaluate.Metric`, made directly and offline: `UAR().compute(predictions=..., references=...)`.

`evaluate.load` fetches a script from the Hub; these classes need none. They are not in `ser.evaluation.metrics`, since
`evaluate` imports torch, which takes seconds and which readers of results do not need.

    >>> UAR().compute(predictions=[0, 1, 1, 1], references=[0, 0, 1, 1])
    {'uar': 0.75}
"""

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from ser.evaluation import metrics


class ConfusionMetric(evaluate.Metric):
    """A score of predicted classes, computed from their confusion matrix.

    Undefined values are `nan`: the recall of a class that the references lack, the precision of one that is never
    predicted. Means leave them out, see `ser.evaluation.metrics`.

    Args:
        num_classes: Number of classes C; by default, the greatest index plus one.
        keep_in_memory: As in `evaluate.Metric`; by default true for one process. Two runs on one machine would
            otherwise wait for each other's lock on a file in a shared cache. Several processes share such files, and
            tell their run from others by `experiment_id`.
        num_process: As in `evaluate.Metric`, like the rest of its arguments.
    """

    name_of_score = "confusion"
    score: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda confusion: confusion)

    def __init__(
        self, num_classes: int | None = None, keep_in_memory: bool | None = None, num_process: int = 1, **kwargs: Any
    ):
        self.num_classes = num_classes
        keep_in_memory = num_process == 1 if keep_in_memory is None else keep_in_memory
        super().__init__(keep_in_memory=keep_in_memory, num_process=num_process, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        index = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="predictions and references: indices of classes, from 0.",
            features=datasets.Features({"predictions": index, "references": index}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict:
        predictions, references = np.asarray(predictions, np.int64), np.asarray(references, np.int64)
        if not len(references):
            raise ValueError("there is no prediction to score; expected at least one clip")
        num_classes = self.num_classes or int(max(predictions.max(), references.max())) + 1
        for name, indices in (("predictions", predictions), ("references", references)):
            if indices.min() < 0 or indices.max() >= num_classes:
                raise ValueError(
                    f"{name} hold indices {indices.min()} to {indices.max()}; expected 0 to {num_classes - 1} "
                    f"for num_classes = {num_classes}"
                )
        return {self.name_of_score: self.score(metrics.confusion_matrix(references, predictions, num_classes)).tolist()}


class ConfusionMatrix(ConfusionMetric):
    """Counts, rows are references: `{"confusion": [[...], ...]}`."""


class UAR(ConfusionMetric):
    """Mean recall over the classes that occur in the references: `{"uar": float}`."""

    name_of_score = "uar"
    score = staticmethod(metrics.uar)


class Accuracy(ConfusionMetric):
    """Share of right predictions: `{"accuracy": float}`."""

    name_of_score = "accuracy"
    score = staticmethod(metrics.accuracy)


class MacroF1(ConfusionMetric):
    """Mean F1 over the classes that occur in references or predictions: `{"macro_f1": float}`."""

    name_of_score = "macro_f1"
    score = staticmethod(metrics.macro_f1)


class WeightedF1(ConfusionMetric):
    """F1 weighted by the references of each class: `{"weighted_f1": float}`."""

    name_of_score = "weighted_f1"
    score = staticmethod(metrics.weighted_f1)


class Recall(ConfusionMetric):
    """Recall of every class: `{"recall": [float, ...]}`."""

    name_of_score = "recall"
    score = staticmethod(metrics.recalls)


class Precision(ConfusionMetric):
    """Precision of every class: `{"precision": [float, ...]}`."""

    name_of_score = "precision"
    score = staticmethod(metrics.precisions)
