"""Exports a trained model to ONNX, in float32 or int8, as one file with everything that scoring needs."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from ser.data.data_arguments import DataArguments, read_data_arguments
from ser.inference.onnx_features import WhisperLogits
from ser.inference.onnx_model import METADATA_KEY, OnnxClassifier
from ser.inference.recordings import check_output
from ser.predictions import read_predictions
from ser.run_folder import CONFIG
from ser_model import WAVE_BACKBONES

TOLERANCE = 1e-5
# Backbones that take waves, and those whose features the graph computes.
_FAMILIES = (*WAVE_BACKBONES, "whisper")
# ONNX files are in Protobuf, and Protobuf has no larger messages.
_MAX_BYTES = 2**31 - 2**20


def check_flags(format: str, checked_run: str | None, flags: Sequence[str]) -> DataArguments | None:
    """Checks the flags of `ser export`.

    Args:
        format: Value of `--format`.
        checked_run: Folder of the run to compare with; None: no comparison.
        flags: Flags of the data; only a comparison needs them.

    Returns:
        The corpus to compare on.

    Raises:
        FileNotFoundError: The folder has no predictions or no configuration.
        ValueError: A flag is unknown or not needed.
    """
    if format != "onnx":
        raise ValueError(f"--format: {format!r} is not onnx, the only format.")
    if checked_run is None:
        if flags:
            raise ValueError(f"{' '.join(flags)}: unknown flags; only --check takes flags of the data.")
        return None
    read_predictions(checked_run)
    return read_data_arguments([str(Path(checked_run) / CONFIG), *flags])[0]


def destination(run: str, output: Path | None, int8: bool, overwrite: bool = False) -> Path:
    """Returns the path of an export: `output`, or `model.onnx` (`model-int8.onnx`) in the folder of the run.

    Raises:
        FileExistsError, IsADirectoryError: The path exists already.
        ImportError: A package for the export is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ser export needs {error.name}: pip install 'ser[onnx]'.") from None
    folder = Path(run) if Path(run).is_dir() else Path()
    path = output or folder / ("model-int8.onnx" if int8 else "model.onnx")
    check_output(path, overwrite)
    return path


def check_model(config: dict[str, Any]) -> None:
    """Checks that a model can be exported, before it is loaded.

    Args:
        config: Content of the model's `config.json`.

    Raises:
        ValueError: It is a stock model, or its backbone takes features that no graph of ours computes.
    """
    if config.get("model_type") != "ser":
        raise ValueError(
            f"RUN: is a {config.get('model_type')!r} of transformers, and its scores depend on the batch; ser export "
            "takes models trained with --head tanh or linear."
        )
    family = config.get("backbone_config", {}).get("model_type")
    if family not in _FAMILIES:
        raise ValueError(
            f"RUN: an ONNX file takes waves, and ser export cannot put the features that {family} takes into the file; "
            f"expected one of {', '.join(_FAMILIES)}."
        )


def export_onnx(model: Any, feature_extractor: Any, path: Path, min_samples: int, int8: bool = False) -> Path:
    """Writes a model as one ONNX file for any batch and length. Its metadata hold everything that scoring needs.

    Before the file gets its name, its scores are compared with the model's, on noise in other batch sizes and lengths
    than those of the trace. With `int8` the weights of the linear layers are then rounded; convolutions stay float.

    Args:
        model: `SERForAudioClassification` with a backbone that takes waves, or Whisper's encoder. The export changes
            it: do not train it afterwards.
        feature_extractor: The feature extractor of the model.
        path: The file; its folder is made if it does not exist.
        min_samples: Length of the shortest wave that makes a frame.
        int8: Whether to round weights to int8.

    Returns:
        `path`.

    Raises:
        ValueError: The weights do not fit in one file, the features are not the same in every call, or the scores of
            the file differ from the model's.
    """
    weights = sum(parameter.numel() for parameter in model.parameters()) * 4
    if weights > _MAX_BYTES:
        raise ValueError(f"RUN: {weights / 1e9:.1f} GB of weights; one ONNX file holds {_MAX_BYTES / 1e9:.1f} GB.")
    path.parent.mkdir(parents=True, exist_ok=True)
    about = _about(model, feature_extractor, min_samples)
    with tempfile.TemporaryDirectory(prefix=".ser-export-", dir=path.parent) as folder:
        draft = Path(folder) / "model.onnx"
        program = trace(WhisperLogits(model, feature_extractor) if _is_whisper(model) else _Logits(model))
        program.model.metadata_props[METADATA_KEY] = json.dumps({**about, "int8": False}, ensure_ascii=False)
        program.save(str(draft), external_data=False)
        check_same(model, feature_extractor, OnnxClassifier(draft))
        if int8:
            draft = quantize(draft, {**about, "int8": True})
        draft.replace(path)
    return path


def _is_whisper(model: Any) -> bool:
    return model.config.backbone_config.model_type == "whisper"


def _about(model: Any, feature_extractor: Any, min_samples: int) -> dict[str, Any]:
    config, is_whisper = model.config.to_dict(), _is_whisper(model)
    return {
        "labels": [model.config.id2label[index] for index in range(model.config.num_labels)],
        "sampling_rate_hz": feature_extractor.sampling_rate,
        "min_samples": min_samples,
        "max_samples": feature_extractor.n_samples if is_whisper else None,
        "do_normalize": not is_whisper and feature_extractor.do_normalize,
        "problem_type": model.config.problem_type,
        "calibration_temperature": model.config.calibration_temperature,
        "config": {name: value for name, value in config.items() if name not in ("_name_or_path", "auto_map")},
    }


class _Logits(nn.Module):
    """A model that takes waves as a function of two tensors that returns one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_values, attention_mask).logits


def trace(graph: nn.Module) -> torch.onnx.ONNXProgram:
    """Traces a function of waves and their mask to an ONNX program with inputs `[batch, samples]`."""
    from onnxscript import optimizer

    # Frozen: with a gradient, attention uses another kernel, and tracing fails on its memory layout (WavLM).
    graph = graph.cpu().float().eval().requires_grad_(False)
    for module in graph.modules():
        if parametrize.is_parametrized(module):  # computes weight norm once, not in every call
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    samples = 16_000
    mask = torch.ones(2, samples, dtype=torch.long)
    mask[1, samples // 2 :] = 0
    axes = {0: "batch", 1: "samples"}
    with _quiet():
        program = torch.onnx.export(
            graph,
            (torch.randn(2, samples) * mask, mask),
            dynamo=True,
            optimize=False,
            input_names=["input_values", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(axes, axes),
            verbose=False,
        )
        # The exporter's own clean-up replaces numbers up to 1e-8 by zero. That would remove the 1e-8 under the root of
        # the standard deviation, and a clip of one frame would be divided by zero.
        optimizer.inline(program.model)
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()  # they name files of this machine
    return program


@torch.no_grad()
def check_same(model: Any, feature_extractor: Any, classifier: OnnxClassifier) -> None:
    """Compares a float export with its model on batches of 1 and 3 waves of noise; they last one frame to 3 s.

    Raises:
        ValueError: The probabilities, or the values of a regression, differ by more than 1e-5 of their scale.
    """
    generator, rate_hz = np.random.default_rng(0), classifier.sampling_rate_hz
    padding = "max_length" if _is_whisper(model) else True  # as in training
    for seconds in ((0.0,), (0.7, 3.0, 0.2)):
        sizes = np.clip((np.array(seconds) * rate_hz).astype(int), classifier.min_samples, classifier.max_samples)
        waves = [generator.standard_normal(size).astype(np.float32) for size in sizes]
        inputs = feature_extractor(
            waves, sampling_rate=rate_hz, padding=padding, return_attention_mask=True, return_tensors="pt"
        )
        logits = model(**inputs).logits.double()
        expected = (logits if classifier.problem_type == "regression" else logits.softmax(-1)).numpy()
        difference = np.abs(classifier.probabilities(waves) - expected).max() / max(1.0, np.abs(expected).max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"RUN: scores of the export differ from the model's by {difference:.1e}, more than {TOLERANCE:g}; "
                "nothing is written."
            )


def quantize(path: Path, about: dict[str, Any]) -> Path:
    """Rounds the weights of the matrix products of an ONNX file to int8, channel by channel, and writes `int8.onnx`.

    The inputs of these products are rounded at run time (dynamic quantisation). Convolutions stay float: int8 costs
    them the most accuracy, and their int8 kernels are slower on many machines. The weights use 7 of the 8 bits,
    because processors without VNNI overflow with 8.

    Args:
        path: The float file; `int8.onnx` is written into its folder.
        about: The metadata to write.

    Returns:
        The path of `int8.onnx`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name("int8.onnx")
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes from before the clean-up; the quantiser would call them wrong
    with _quiet():
        quantize_dynamic(
            model,
            rounded,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    model = onnx.load(rounded)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(about, ensure_ascii=False)})
    onnx.save(model, rounded)
    return rounded


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides log messages and warnings that are meant for the exporters' developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
