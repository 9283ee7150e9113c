"""Compares an ONNX export with its model on the clips of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ, decode_wav
from ser.evaluation.metrics import score
from ser.evaluation.scored import truth_and_probabilities
from ser.inference.onnx_model import OnnxClassifier, load_onnx_pipeline
from ser.predictions import read_own_predictions
from ser_model import SERConfig, SERPipeline

# An int8 export may lose this many points of UAR.
MAX_POINTS_LOST = 1.0


@dataclass(frozen=True)
class Comparison:
    """Scores of an export and of its model on the same clips.

    Attributes:
        clips: Number of clips.
        largest_difference: Largest difference of a probability.
        same_label: Share of clips that get the same label.
        uar_model, uar_export: Unweighted average recall in [0, 1].
        parts: The parts of the split that hold the clips.
    """

    clips: int
    largest_difference: float
    same_label: float
    uar_model: float
    uar_export: float
    parts: str = "dev and test"

    @property
    def points(self) -> float:
        """UAR of the export minus UAR of the model, in points."""
        return 100 * (self.uar_export - self.uar_model)

    @property
    def is_good(self) -> bool:
        return self.points >= -MAX_POINTS_LOST

    def words(self) -> str:
        return (
            f"On {self.clips} clips ({self.parts}): UAR {self.uar_model:.4f} of the model, {self.uar_export:.4f} of "
            f"the export ({self.points:+.2f} points); the same label for {self.same_label:.1%}; largest difference of "
            f"a probability {self.largest_difference:.1e}."
        )


def compare_with_run(path: Path, run: str, clip_audio: Callable[[str], bytes]) -> Comparison:
    """Scores clips of a run with an export and compares the scores with the run's predictions.

    The clips are those of dev and test, or a few training clips of a model that was trained on all clips.

    Args:
        path: The ONNX file.
        run: Folder of the run.
        clip_audio: Returns the WAV file of a clip from its id; `ser.publish.pre_push_checks.audio_of` makes it.

    Raises:
        FileNotFoundError: The run has no predictions.
        ValueError: The run is a regression, or a clip is not in the corpus.
    """
    classifier, predictions = OnnxClassifier(path), read_own_predictions(run)
    if classifier.problem_type == "regression":
        raise ValueError("--check: compares recalls of classes, and this model is a regression; leave --check out.")
    truth, expected = truth_and_probabilities(predictions, classifier.labels)
    pipe = load_onnx_pipeline(path, SERConfig, SERPipeline)
    try:
        found = np.stack([_scores(pipe, decode_wav(clip_audio(clip)), classifier.labels) for clip in predictions["id"]])
    except KeyError as error:
        raise ValueError(f"--check: clip {error} of the run is not in the corpus; give it with --data_dir.") from None
    return Comparison(
        clips=len(truth),
        parts=" and ".join(sorted(set(predictions["split"]))),
        largest_difference=float(np.abs(found - expected).max()),
        same_label=float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        uar_model=score(truth, expected, classifier.labels)["uar"],
        uar_export=score(truth, found, classifier.labels)["uar"],
    )


def _scores(pipe: Any, wave: np.ndarray, labels: list[str]) -> np.ndarray:
    """Probabilities `[C]` of a clip `[T]`; a long one is scored in windows, as in the run."""
    scores = {one["label"]: one["score"] for one in pipe({"array": wave, "sampling_rate": SAMPLING_RATE_HZ})}
    return np.array([scores[label] for label in labels])
