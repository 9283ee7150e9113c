"""Loads a model with the installed code, never with code that comes with the model."""

import os
from pathlib import Path
from typing import Any

from ser.files import read_json
from ser.hub_config import download_config
from ser.model_errors import named_if_damaged
from ser.run_folder import RESULTS, pooled_models, read_results


def load_pipeline(name_or_path: str, device: Any = None, **hub: Any) -> Any:
    """Loads a model of this project, or a stock classifier of speech, into this project's pipeline.

    No code from the model's folder is run: the configuration says `ser` or names a class of transformers, and weights
    are read from safetensors only.

    Args:
        name_or_path: A folder, or a repository on the Hub.
        device: As `pipeline()` takes it; by default the GPU of this process where there is one.
        hub: `revision` and `token` of the repository.

    Returns:
        The pipeline. It makes no further request to the network.

    Raises:
        ValueError: The model is not there, cannot be read, is not an SER model, or lacks weights.
    """
    config = read_config(name_or_path, **hub)
    device = _device(device)

    from transformers import AutoFeatureExtractor
    from transformers.utils import logging

    from ser_model import SERPipeline

    chosen = _model_class(name_or_path, config)
    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # hides its table of missing weights, which are refused below
    try:
        with named_if_damaged("--model", name_or_path):
            model, report = _model_and_report(chosen, name_or_path, **hub)
            extractor = AutoFeatureExtractor.from_pretrained(name_or_path, trust_remote_code=False, **hub)
    finally:
        logging.set_verbosity(level)
    wrong = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if wrong:
        raise ValueError(
            f"--model: {name_or_path} is damaged: {len(wrong)} weights are missing or left over, such as {wrong[0]}."
        )
    return SERPipeline(model=model.eval(), feature_extractor=extractor, task="audio-classification", device=device)


def is_exact_in_batches(pipe: Any) -> bool:
    """Whether the scores of a clip are independent of its batch. Those of a stock model are not."""
    return pipe.model.config.model_type == "ser"


def _device(device: Any) -> Any:
    """Checks the device; without one, gives each process of a launcher its own GPU."""
    import torch

    if device is None:
        count = torch.cuda.device_count()
        return int(os.environ.get("LOCAL_RANK", 0)) % count if count else None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):  # each kind of device raises another one
        raise ValueError(f"--device: this machine has no {device}; use cpu, which every machine has.") from None
    return device


def _model_and_report(kind: Any, name_or_path: str, **hub: Any) -> tuple[Any, dict[str, Any]]:
    try:
        return kind.from_pretrained(name_or_path, use_safetensors=True, output_loading_info=True, **hub)
    except RuntimeError as error:  # a tensor of another shape
        raise ValueError(f"--model: {name_or_path}: the weights do not fit config.json.") from error


def _model_class(name_or_path: str, config: dict[str, Any]) -> type:
    if config.get("model_type") == "ser":
        from ser_model import SERForAudioClassification

        return SERForAudioClassification
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as STOCK

    name = f"{config.get('architectures')}".strip("[]'")  # of a damaged file, anything
    if name == STOCK.get(str(config.get("model_type"))) and name.endswith("Classification"):
        return getattr(transformers, name)
    raise ValueError(
        f"--model: {name_or_path} is not an SER model: its config.json says model_type {config.get('model_type')!r}."
    )


def read_config(name_or_path: str, **hub: Any) -> dict[str, Any]:
    """Reads `config.json` of a model, before anything slow is imported.

    Raises:
        ValueError: The model is not there, or cannot be read.
    """
    path = Path(name_or_path)
    if path.is_dir():
        file: Path | str = path / "config.json"
        if not Path(file).is_file():
            why = pooled_models(path) or f"{name_or_path} is not an SER model: the folder holds no config.json."
            raise ValueError(f"--model: {why}")
    elif (
        path.exists()
        or name_or_path.startswith((".", "/", "~"))
        or name_or_path.count("/") > 1
        or name_or_path.endswith("/")
    ):
        raise ValueError(f"--model: there is no folder {name_or_path}.")
    else:
        file = download_config(name_or_path, "--model", **hub)
    try:
        return read_json(file)
    except ValueError:
        raise ValueError(
            f"--model: {name_or_path} is not an SER model: its config.json is not a JSON object."
        ) from None


def results_of_model(name_or_path: str) -> dict[str, Any]:
    """`results.json` beside a model, in its folder or repository; empty where it has none.

    Raises:
        ValueError: It is not the results of a run.
    """
    path = Path(name_or_path) / RESULTS
    if not Path(name_or_path).is_dir():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name_or_path, RESULTS))
        except OSError:
            return {}
    return read_results(path) if path.is_file() else {}
