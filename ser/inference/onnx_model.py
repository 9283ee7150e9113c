"""Scores of waves through onnxruntime, from a file that `ser export` wrote: without torch and transformers."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# What the exporter writes into the file's metadata, as JSON under one key; a file without it is not ours.
METADATA_KEY = "ser"


class OnnxClassifier:
    """A model that `ser export` wrote.

    Example:
        >>> classify = OnnxClassifier("model.onnx")
        >>> dict(zip(classify.labels, classify.probabilities([wave])[0]))
        {'anger': 0.93, 'neutral': 0.05, ...}

    Attributes:
        labels: Names of the classes, or of the dimensions of a regression, in the order of the columns.
        sampling_rate_hz: Of the waves.
        min_samples: Length of the shortest wave that can be scored.
        do_normalize: Whether each wave is brought to mean 0 and variance 1, as in training.
        problem_type: `regression`, or None for classes.
        calibration_temperature: What the logits were divided by to calibrate them; done in the file's weights.
        is_int8: Whether the weights are int8. Such a file rounds its inputs in steps that the whole batch shares, so
            that waves are scored one at a time here, and a wave's scores depend on no other.
        config: The configuration of the model it was made of.

    Args:
        path: The file.
        threads: Threads of onnxruntime; as many as there are cores by default.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: onnxruntime is not installed.
        ValueError: It is no ONNX file, or one that `ser export` did not write.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        self.path = Path(path)
        self.session = _open(self.path, threads)
        about = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if about is None:
            raise ValueError(f"--onnx: {path} does not say what its scores are; give a file that ser export wrote.")
        about = json.loads(about)
        self.labels: list[str] = about["labels"]
        self.sampling_rate_hz: int = about["sampling_rate_hz"]
        self.min_samples: int = about["min_samples"]
        self.do_normalize: bool = about["do_normalize"]
        self.problem_type: str | None = about["problem_type"]
        self.calibration_temperature: float = about["calibration_temperature"]
        self.is_int8: bool = about["int8"]
        self.config: dict[str, Any] = about["config"]

    def probabilities(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities `[B, C]`, float64, of waves `[T]`; the plain values where this is a regression.

        Raises:
            ValueError: As `logits`.
        """
        logits = self.logits(waves).astype(np.float64)
        if self.problem_type == "regression":
            return logits
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def logits(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Logits `[B, C]`, float32, of mono waves `[T]` of any lengths at `sampling_rate_hz`.

        Raises:
            ValueError: No wave, one that is not of one axis, or one that is too short.
        """
        if not len(waves):
            raise ValueError("waves: none was given.")
        for place, wave in enumerate(waves):
            if np.ndim(wave) != 1 or len(wave) < self.min_samples:
                raise ValueError(
                    f"waves[{place}]: has shape {np.shape(wave)}; expected one axis of {self.min_samples} samples or "
                    f"more at {self.sampling_rate_hz} Hz."
                )
        return self.run(*padded([normalized(wave) if self.do_normalize else wave for wave in waves]))

    def run(self, input_values: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Logits `[B, C]` of waves `[B, T]` that are normalised and padded, with 1 in the mask on their own samples."""
        values, mask = input_values.astype(np.float32, copy=False), attention_mask.astype(np.int64, copy=False)
        if not self.is_int8:
            return self._scores(values, mask)
        rows = zip(values, mask, mask.sum(axis=1), strict=True)
        return np.concatenate([self._scores(value[None, :size], one[None, :size]) for value, one, size in rows])

    def _scores(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"input_values": values, "attention_mask": mask})[0]


def normalized(wave: np.ndarray) -> np.ndarray:
    """A wave `[T]` at mean 0 and variance 1, float32: `(x - mean) / sqrt(var + 1e-7)`, as the feature extractor's."""
    wave = np.asarray(wave, dtype=np.float32)
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def padded(waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Waves `[T]` side by side, zeros behind the shorter ones: `[B, T]` float32, and the mask `[B, T]`, int64."""
    size = max(len(wave) for wave in waves)
    values, mask = np.zeros((len(waves), size), np.float32), np.zeros((len(waves), size), np.int64)
    for row, wave in enumerate(waves):
        values[row, : len(wave)], mask[row, : len(wave)] = wave, 1
    return values, mask


def load_onnx_pipeline(path: str | Path, config_class: type, pipeline_class: type) -> Any:
    """Puts a file that `ser export` wrote into this project's pipeline: long recordings and timelines come with it.

    The pipeline reads and cuts audio, which takes torch and transformers; the scores are onnxruntime's, on the CPU.

    Args:
        config_class: `SERConfig`.
        pipeline_class: `SERPipeline`.

    Raises:
        FileNotFoundError, ImportError, ValueError: As [`OnnxClassifier`].
    """
    from transformers import Wav2Vec2FeatureExtractor

    classifier = OnnxClassifier(path)
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=classifier.sampling_rate_hz, do_normalize=classifier.do_normalize, return_attention_mask=True
    )
    model = _PipelineModel(classifier, config_class(**classifier.config))
    return pipeline_class(model=model, feature_extractor=extractor, task="audio-classification", device="cpu")


class _PipelineModel:
    """What a pipeline and `ser predict` ask of a model, answered by an [`OnnxClassifier`]."""

    def __init__(self, classifier: OnnxClassifier, config: Any):
        import torch

        self.classifier, self.config = classifier, config
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def __call__(self, input_values: Any, attention_mask: Any) -> SimpleNamespace:
        import torch

        return SimpleNamespace(
            logits=torch.from_numpy(self.classifier.run(input_values.numpy(), attention_mask.numpy()))
        )

    def state_dict(self) -> dict[str, Any]:
        """The hash of the file, which tells one model from another."""
        import torch

        return {
            "onnx": torch.frombuffer(
                bytearray(hashlib.sha256(self.classifier.path.read_bytes()).digest()), dtype=torch.uint8
            )
        }


def _open(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("--onnx needs onnxruntime: pip install 'ser[onnx]'.") from None
    if not path.is_file():
        raise FileNotFoundError(f"--onnx: there is no file {path}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of its own choices
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise ValueError(f"--onnx: {path} is not an ONNX file that onnxruntime can run: {error}") from error
