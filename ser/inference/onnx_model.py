"""Scores waves with onnxruntime and a file of `ser export`, without torch and transformers."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# The exporter writes JSON under this key of the file's metadata; only `ser export` writes this key.
METADATA_KEY = "ser"


class OnnxClassifier:
    """A model that `ser export` wrote.

    Example:
        >>> classify = OnnxClassifier("model.onnx")
        >>> dict(zip(classify.labels, classify.probabilities([wave])[0]))
        {'anger': 0.93, 'neutral': 0.05, ...}

    Attributes:
        labels: Names of the classes, or of the dimensions of a regression, in the order of the columns.
        sampling_rate_hz: Sampling rate of the waves.
        min_samples: Length of the shortest wave that can be scored.
        max_samples: Length of the longest one, the window of Whisper's encoder; None: there is no limit.
        do_normalize: Whether each wave is normalised to mean 0 and variance 1, as in training.
        problem_type: `regression`, or None for classes.
        calibration_temperature: The logits were divided by this number; the file's weights contain it already.
        is_int8: Whether the weights are int8. Such a file rounds its inputs with one scale for the whole batch, so
            waves are scored one at a time here: the scores of a wave depend on no other wave.
        config: The configuration of the exported model.

    Args:
        path: The file.
        threads: Number of threads of onnxruntime; by default one per core.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: onnxruntime is not installed.
        ValueError: It is not an ONNX file, or `ser export` did not write it.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        self.path = Path(path)
        self.session = _open(self.path, threads)
        about = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if about is None:
            raise ValueError(f"--onnx: {path} has no metadata of ser export; give a file that ser export wrote.")
        about = json.loads(about)
        self.labels: list[str] = about["labels"]
        self.sampling_rate_hz: int = about["sampling_rate_hz"]
        self.min_samples: int = about["min_samples"]
        self.max_samples: int | None = about.get("max_samples")  # older files have none
        self.do_normalize: bool = about["do_normalize"]
        self.problem_type: str | None = about["problem_type"]
        self.calibration_temperature: float = about["calibration_temperature"]
        self.is_int8: bool = about["int8"]
        self.config: dict[str, Any] = about["config"]

    def probabilities(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities `[B, C]`, float64, of waves `[T]`; for a regression, the values themselves.

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
            ValueError: There is no wave, a wave is too short, too long or has more than one axis, or its logits are not
                finite.
        """
        if not len(waves):
            raise ValueError("waves: none was given.")
        for index, wave in enumerate(waves):
            if np.ndim(wave) != 1 or len(wave) < self.min_samples:
                raise ValueError(
                    f"waves[{index}]: has shape {np.shape(wave)}; expected one axis of {self.min_samples} samples or "
                    f"more at {self.sampling_rate_hz} Hz."
                )
            if self.max_samples is not None and len(wave) > self.max_samples:
                raise ValueError(
                    f"waves[{index}]: has {len(wave)} samples; this model hears {self.max_samples} at most "
                    f"({self.max_samples / self.sampling_rate_hz:g} s). Cut the wave into pieces, or use ser predict "
                    "--onnx, which does so."
                )
        logits = self.run(*padded([normalized(wave) if self.do_normalize else wave for wave in waves]))
        for index in np.flatnonzero(~np.isfinite(logits).all(axis=1))[:1]:
            raise ValueError(
                f"waves[{index}]: its logits are not finite, so there are no scores. Look for NaN in the wave; if it "
                "has none, the weights in the file are damaged: export the model again."
            )
        return logits

    def run(self, input_values: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Logits `[B, C]` of normalised and padded waves `[B, T]`; the mask is 1 on valid samples."""
        values, mask = input_values.astype(np.float32, copy=False), attention_mask.astype(np.int64, copy=False)
        if not self.is_int8:
            return self._scores(values, mask)
        rows = zip(values, mask, mask.sum(axis=1), strict=True)
        return np.concatenate([self._scores(value[None, :size], one[None, :size]) for value, one, size in rows])

    def _scores(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"input_values": values, "attention_mask": mask})[0]


def normalized(wave: np.ndarray) -> np.ndarray:
    """Normalises a wave `[T]` as the feature extractor does: `(x - mean) / sqrt(var + 1e-7)`, float32."""
    wave = np.asarray(wave, dtype=np.float32)
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def padded(waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Stacks waves `[T]`, with zeros behind the shorter ones: `[B, T]`, float32, and their mask `[B, T]`, int64."""
    size = max(len(wave) for wave in waves)
    values, mask = np.zeros((len(waves), size), np.float32), np.zeros((len(waves), size), np.int64)
    for row, wave in enumerate(waves):
        values[row, : len(wave)], mask[row, : len(wave)] = wave, 1
    return values, mask


def load_onnx_pipeline(path: str | Path, config_class: type, pipeline_class: type, threads: int | None = None) -> Any:
    """Makes this project's pipeline for a file of `ser export`, so that it takes long recordings and timelines.

    The pipeline reads and cuts audio with torch and transformers. onnxruntime computes the scores, on the CPU.

    Args:
        path: The file.
        config_class: `SERConfig`.
        pipeline_class: `SERPipeline`.
        threads: As [`OnnxClassifier`] takes it.

    Raises:
        FileNotFoundError, ImportError, ValueError: As in [`OnnxClassifier`].
    """
    classifier = OnnxClassifier(path, threads)
    extractor = _wave_extractor(classifier)
    model = _PipelineModel(classifier, config_class(**classifier.config))
    return pipeline_class(model=model, feature_extractor=extractor, task="audio-classification", device="cpu")


def _wave_extractor(classifier: OnnxClassifier) -> Any:
    """Makes the feature extractor of the pipeline, which only normalises waves where the file needs it."""
    from transformers import Wav2Vec2FeatureExtractor

    class WaveExtractor(Wav2Vec2FeatureExtractor):
        """Leaves the padding to the file; `chunk_length`, in seconds, tells the pipeline where to cut."""

        def __call__(self, wave: np.ndarray, padding: Any = True, **kwargs: Any) -> Any:
            return super().__call__(wave, padding=True, **kwargs)

    rate_hz, most_samples = classifier.sampling_rate_hz, classifier.max_samples
    limit = {} if most_samples is None else {"chunk_length": most_samples // rate_hz}
    return WaveExtractor(
        sampling_rate=rate_hz, do_normalize=classifier.do_normalize, return_attention_mask=True, **limit
    )


class _PipelineModel:
    """Gives an [`OnnxClassifier`] the attributes of a model that the pipeline and `ser predict` use."""

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
        """The hash of the file, in place of weights; it identifies the model."""
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
    options.log_severity_level = 3  # only errors: it warns about its own choices
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ValueError(f"--onnx: {path} is not an ONNX file that onnxruntime can run: {error}") from error
