"""The sections of results.json besides the scores: corpus, protocol, model, versions, configuration."""

import importlib.metadata
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from ser.data.audio import corpus_facts
from ser.data.audit import audit, what_is_wrong
from ser.data.splits import Split
from ser.run_folder import SPLIT

TERMS = ("name", "licence", "language", "citation", "homepage")
FACTS = (*TERMS, "differences", "notes", "skipped")
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "audiomentations", "soundfile", "soxr", "scikit-learn")


def run_context(
    split: Split, dataset: Any, num_folds: int, config: dict[str, Any], model: dict[str, Any], outcome: dict[str, Any]
) -> dict[str, Any]:
    """The sections of `results.json` besides the scores, for one run.

    Args:
        split: The clips of train, dev and test.
        dataset: The corpus.
        num_folds: Folds of the protocol.
        config: The arguments of the run, including its seed.
        model: The section `model` and those of choices (`head`, `start`, `layers`, `svm`, ...).
        outcome: The sections `calibration` and `seconds`.
    """
    wrong = [*what_is_wrong(split, dataset), *control_words(config)]
    return {
        "protocol": protocol_section(split, num_folds, [config["seed"]], [split.fold]) | {"what_is_wrong": wrong},
        "corpus": corpus_section(dataset),
        "label_source": corpus_facts(dataset).get("label_source"),
        **model,
        "audit": audit(split, dataset),
        **outcome,
        "versions": versions(),
        "config": shown_config(config),
    }


def corpus_section(dataset: Any) -> dict[str, Any]:
    """Facts about the corpus, and counts of its clips, speakers and hours."""
    facts = corpus_facts(dataset)
    speakers = {speaker for speaker in dataset["speaker"][:] if speaker is not None}
    section = {
        **{key: facts.get(key) for key in FACTS},
        "clips": len(dataset),
        "speakers": len(speakers) or None,
        "hours": sum(dataset["duration"][:]) / 3600,
    }
    if facts.get("corpora"):
        clips = Counter(dataset["corpus"])
        section["corpora"] = {
            name: {key: own.get(key) for key in TERMS} | {"clips": clips[name]}
            for name, own in facts["corpora"].items()
        }
    if "emotion" in dataset.features and not facts.get("target_columns"):
        counts, names = Counter(dataset["emotion"][:]), dataset.features["emotion"].names
        section["clips_per_class"] = {name: counts[index] for index, name in enumerate(names)}
    return section


def protocol_section(split: Split, num_folds: int, seeds: list[int], folds: list[int]) -> dict[str, Any]:
    """How the clips were split."""
    return {
        "name": split.protocol,
        "speaker_independent": split.speaker_independent,
        "num_folds": num_folds,
        "folds": folds,
        "seeds": seeds,
        "split_seed": split.seed,
        "split_sha256": split.sha256,
        "clips": {"train": len(split.train), "dev": len(split.dev), "test": len(split.test)},
    }


def control_words(arguments: dict[str, Any]) -> list[str]:
    """Warnings that follow from the arguments: shuffled labels, or a model whose training clips are unknown."""
    shuffled = "The labels of train were shuffled: this run is a control, whose scores are chance or a leak."
    words = [shuffled] if arguments.get("shuffle_train_labels") else []
    name = arguments.get("model_name_or_path")
    if name and not arguments.get("do_train", True) and not (Path(name) / SPLIT).is_file():
        words.append(
            f"{shown_name(name)} was not trained here and has no {SPLIT}: it may have been trained on clips or "
            "speakers of this test set."
        )
    return words


def shown_name(name: str) -> str:
    """The name of a model in results: its repository on the Hub, or the name of its folder without the path."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def encoder_name(job: Any) -> str | None:
    """The name of the pretrained model that a job starts from, as results show it; None from scratch."""
    name = job.model.model_name_or_path
    return shown_name(name) if name else None


def shown_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as shown in results; the path of the model on this machine stays in `run_config.yaml`."""
    name = arguments.get("model_name_or_path")
    return {**arguments, "model_name_or_path": shown_name(name)} if name else arguments


def model_section(model: Any, backbone: str | None, trainable: int) -> dict[str, Any]:
    """Facts about the model."""
    config = model.config
    made = f"{getattr(config, 'backbone_config', config).model_type}, from scratch"
    return {
        "backbone": shown_name(backbone) if backbone else made,
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": trainable,
        "pooling": getattr(config, "pooling", "mean"),
        "layer_mix": getattr(config, "layer_mix", "last"),
        "layers_cut_off": getattr(config, "layers_cut_off", 0),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a score may depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
