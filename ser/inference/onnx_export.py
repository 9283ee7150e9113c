"""Export of a trained model to ONNX, in float32 or int8: one file that holds all that scoring needs."""

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
# Protobuf, which ONNX files are written in, ends here.
_MAX_BYTES = 2**31 - 2**20


def check_flags(format: str, checked_run: str | None, flags: Sequence[str]) -> DataArguments | None:
    """Reads what the command line says beside the model.

    Args:
        checked_run: The folder of the run to compare with; None: no comparison is wanted.
        flags: Flags of the data, which only a comparison needs.

    Returns:
        The corpus to compare on.

    Raises:
        FileNotFoundError: The folder has no predictions or no configuration.
        ValueError: A flag is unknown or of no use.
    """
    if format != "onnx":
        raise ValueError(f"--format: {format!r} is not onnx, the only one there is.")
    if checked_run is None:
        if flags:
            raise ValueError(f"{' '.join(flags)}: unknown; flags of the data are for --check.")
        return None
    read_predictions(checked_run)
    return read_data_arguments([str(Path(checked_run) / CONFIG), *flags])[0]


def destination(run: str, output: Path | None, int8: bool, overwrite: bool = False) -> Path:
    """Where an export goes: `output`, or `model.onnx` (`model-int8.onnx`) in the folder of the run.

    Raises:
        FileExistsError, IsADirectoryError: There is something already.
        ImportError: A package of the export is not installed.
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
    """Refuses what cannot be exported, by the model's `config.json`, before it is loaded.

    Args:
        families: The backbones that take waves.

    Raises:
        ValueError: It is a stock model, or its backbone takes features.
    """
    if config.get("model_type") != "ser":
        raise ValueError(
            f"RUN: is a {config.get('model_type')!r} of transformers, whose scores depend on the batch; ser export "
            "takes models trained with --head tanh."
        )
    family = config.get("backbone_config", {}).get("model_type")
    if family not in families:
        raise ValueError(
            f"RUN: its backbone, {family}, takes features and not waves, and the features are not made in ONNX; "
            f"expected one of {', '.join(families)}."
        )


def export_onnx(model: Any, feature_extractor: Any, path: Path, min_samples: int, int8: bool = False) -> Path:
    """Writes a model as one ONNX file with batch and length free, and everything that scoring needs in its metadata.

    The file is compared with the model on made waves of other numbers and lengths than it was traced with, before it
    gets its name. With `int8` the weights of the linear layers are then rounded, convolutions stay float.

    Args:
        model: `SERForAudioClassification` of a backbone that takes waves. It is prepared for export and of no use for
            training afterwards.
        path: The file; its folder is made.
        min_samples: Length of the shortest wave that makes a frame.

    Returns:
        `path`.

    Raises:
        ValueError: The weights do not fit in one file, or the file answers otherwise than the model.
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
    """The model as a function of two tensors to one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_values, attention_mask).logits


def trace(model: nn.Module) -> torch.onnx.ONNXProgram:
    """The model as an ONNX program of inputs `[batch, samples]`, its norms over valid frames included."""
    from onnxscript import optimizer

    # Frozen: what needs a gradient takes another kernel of attention, whose memory layout does not trace (WavLM).
    model = model.cpu().float().eval().requires_grad_(False)
    for module in model.modules():
        if parametrize.is_parametrized(module):  # weight norm is worked out once, not in every call
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
        # Not the exporter's own clean-up: that takes numbers up to 1e-8 for zero, and with them the 1e-8 under the
        # root of a standard deviation, which is all there is of it where a clip has one frame.
        optimizer.inline(program.model)
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()  # where in this machine's files it comes from
    return program


@torch.no_grad()
def check_same(model: Any, feature_extractor: Any, classifier: OnnxClassifier) -> None:
    """Compares a float export with its model, on batches of 1 and 3 waves of noise, one frame to 3 s long.

    Raises:
        ValueError: The probabilities, or values of a regression, differ by more than 1e-5 of their scale.
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
                f"RUN: the export answers otherwise than the model, by {difference:.1e}; nothing is written."
            )


def quantize(path: Path, about: dict[str, Any]) -> Path:
    """Rounds the weights of matrix products of an ONNX file to int8, channel by channel; beside it, `int8.onnx`.

    Inputs of those products are rounded while they come (dynamic quantisation). Convolutions stay float: they are
    the part of a speech encoder that suffers, and their int8 kernels are slower on many machines. 7 bits of the
    8 are used, since machines without VNNI overflow on more.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name("int8.onnx")
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes from before the exporter's clean-up, which the quantiser takes for wrong
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
    """Keeps the exporters' remarks to their developers from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
