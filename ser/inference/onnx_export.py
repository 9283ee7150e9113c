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
from ser.inference.onnx_model import METADATA_KEY, OnnxClassifier
from ser.inference.recordings import check_output
from ser.predictions import read_predictions
from ser.run_folder import CONFIG

TOLERANCE = 1e-5
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


def check_model(config: dict[str, Any], families: tuple[str, ...]) -> None:
    """Checks that a model can be exported, before it is loaded.

    Args:
        config: Content of the model's `config.json`.
        families: Names of the backbones that take waves.

    Raises:
        ValueError: It is a stock model, or its backbone takes features.
    """
    if config.get("model_type") != "ser":
        raise ValueError(
            f"RUN: is a {config.get('model_type')!r} of transformers, and its scores depend on the batch; ser export "
            "takes models trained with --head tanh or linear."
        )
    family = config.get("backbone_config", {}).get("model_type")
    if family not in families:
        raise ValueError(
            f"RUN: its backbone, {family}, takes features, and an ONNX file takes waves; "
            f"expected one of {', '.join(families)}."
        )


def export_onnx(model: Any, feature_extractor: Any, path: Path, min_samples: int, int8: bool = False) -> Path:
    """Writes a model as one ONNX file for any batch and length. Its metadata hold everything that scoring needs.

    Before the file gets its name, its scores are compared with the model's, on noise in other batch sizes and lengths
    than those of the trace. With `int8` the weights of the linear layers are then rounded; convolutions stay float.

    Args:
        model: `SERForAudioClassification` with a backbone that takes waves. The export changes it: do not train it
            afterwards.
        feature_extractor: The feature extractor of the model.
        path: The file; its folder is made if it does not exist.
        min_samples: Length of the shortest wave that makes a frame.
        int8: Whether to round weights to int8.

    Returns:
        `path`.

    Raises:
        ValueError: The weights do not fit in one file, or the scores of the file differ from the model's.
    """
    weights = sum(parameter.numel() for parameter in model.parameters()) * 4
    if weights > _MAX_BYTES:
        raise ValueError(f"RUN: {weights / 1e9:.1f} GB of weights; one ONNX file holds {_MAX_BYTES / 1e9:.1f} GB.")
    path.parent.mkdir(parents=True, exist_ok=True)
    about = _about(model, feature_extractor, min_samples)
    with tempfile.TemporaryDirectory(prefix=".ser-export-", dir=path.parent) as folder:
        draft = Path(folder) / "model.onnx"
        program = trace(model)
        program.model.metadata_props[METADATA_KEY] = json.dumps({**about, "int8": False}, ensure_ascii=False)
        program.save(str(draft), external_data=False)
        check_same(model, feature_extractor, OnnxClassifier(draft))
        if int8:
            draft = quantize(draft, {**about, "int8": True})
        draft.replace(path)
    return path


def _about(model: Any, feature_extractor: Any, min_samples: int) -> dict[str, Any]:
    config = model.config.to_dict()
    return {
        "labels": [model.config.id2label[index] for index in range(model.config.num_labels)],
        "sampling_rate_hz": feature_extractor.sampling_rate,
        "min_samples": min_samples,
        "do_normalize": feature_extractor.do_normalize,
        "problem_type": model.config.problem_type,
        "calibration_temperature": model.config.calibration_temperature,
        "config": {name: value for name, value in config.items() if name not in ("_name_or_path", "auto_map")},
    }


class _Logits(nn.Module):
    """The model as a function of two tensors that returns one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_values, attention_mask).logits


def trace(model: nn.Module) -> torch.onnx.ONNXProgram:
    """Traces the model to an ONNX program with inputs `[batch, samples]`."""
    from onnxscript import optimizer

    # Frozen: with a gradient, attention uses another kernel, and tracing fails on its memory layout (WavLM).
    model = model.cpu().float().eval().requires_grad_(False)
    for module in model.modules():
        if parametrize.is_parametrized(module):  # computes weight norm once, not in every call
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    samples = 16_000
    mask = torch.ones(2, samples, dtype=torch.long)
    mask[1, samples // 2 :] = 0
    axes = {0: "batch", 1: "samples"}
    with _quiet():
        program = torch.onnx.export(
            _Logits(model).eval(),
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
    for seconds in ((0.0,), (0.7, 3.0, 0.2)):
        sizes = [max(int(second * rate_hz), classifier.min_samples) for second in seconds]
        waves = [generator.standard_normal(size).astype(np.float32) for size in sizes]
        inputs = feature_extractor(
            waves, sampling_rate=rate_hz, padding=True, return_attention_mask=True, return_tensors="pt"
        )
        logits = model(inputs["input_values"], inputs["attention_mask"]).logits.double()
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
