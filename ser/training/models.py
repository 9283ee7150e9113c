"""The model of a run: a new head on a backbone, a model to train further, or a trained model to score."""

from os.path import isdir
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedConfig

from ser.data.clips import listed
from ser.data.splits import Split, load_split
from ser.hub_config import download_config
from ser.model_errors import named_if_damaged
from ser.predictions import read_predictions
from ser.run_folder import RESULTS, SPLIT, read_results
from ser.training.arguments import ModelArguments
from ser.training.jobs import Job
from ser_model import WAVE_BACKBONES, SERConfig, SERForAudioClassification, check_no_pickle, new_feature_extractor

FLAG = "--model_name_or_path"
# A trained head is taken over only if these settings are equal.
_HEAD = ("pooling", "layer_mix", "head", "classifier_proj_size", "problem_type")


def new_model(job: Job, labels: list[str]) -> tuple[Any, Any]:
    """A model to train and its feature extractor.

    Raises:
        ValueError: No backbone is named, or it does not fit the other flags.
    """
    arguments, backbone = job.model, job.model.parsed_backbone_config()
    config: dict[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    if job.data.target_columns:
        config["problem_type"] = "regression"
    name = arguments.model_name_or_path
    if name is None and not backbone:
        raise ValueError("--model_name_or_path: no backbone is given; name one, or make one with backbone_config.")
    if name is None:
        extractor = new_feature_extractor(AutoConfig.for_model(**{"model_type": "hubert", **backbone}))
    else:
        extractor = _feature_extractor(name)
        extractor.return_attention_mask = True  # without a mask, padding counts as speech
    if arguments.head == "stock":
        return stock_model(arguments, config), extractor
    kept = ("pooling", "head", "classifier_proj_size", "final_dropout", "whisper_full_window")
    # The best layer is chosen later, from statistics of the backbone.
    config |= {key: getattr(arguments, key) for key in kept} | {
        "layer_mix": "last" if arguments.layer_mix == "best" else arguments.layer_mix
    }
    attention = arguments.attn_implementation
    if name is None:
        return SERForAudioClassification(
            SERConfig(backbone_config=backbone, attn_implementation=attention, **config)
        ), extractor
    if is_ours(name):
        return continued_model(name, backbone, config), extractor
    with named_if_damaged(FLAG, name, own=ValueError):
        return SERForAudioClassification.from_backbone(name, attention, backbone_config=backbone, **config), extractor


def _feature_extractor(name: str) -> Any:
    with named_if_damaged(FLAG, name):
        return AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)


def check_backbone_is_there(name: str | None) -> None:
    """Asks for the configuration of a backbone on the Hub, so that a wrong name is found before the corpus is prepared.

    Raises:
        ValueError: It cannot be had; the message says why.
    """
    if name is not None and not Path(name).expanduser().is_dir():
        download_config(name, "--model_name_or_path")


def is_ours(name: str) -> bool:
    """Whether a folder or repository holds a model of this project, not only a backbone."""
    with named_if_damaged(FLAG, name):
        return PreTrainedConfig.get_config_dict(name)[0].get("model_type") == SERConfig.model_type


def continued_model(name: str, backbone_config: dict[str, Any], config: dict[str, Any]) -> SERForAudioClassification:
    """A new model on the backbone of a trained one, to learn one corpus after another (arXiv 2402.07326).

    The trained head is taken over if it has the same classes and the same shape; the attribute `continues_head` of
    the model tells whether it was.

    Args:
        name: Folder or repository of a model of this project.
        backbone_config: Keys to change in the configuration of the backbone, such as SpecAugment.
        config: Arguments of [`SERConfig`], the classes included.
    """
    with named_if_damaged(FLAG, name):
        trained = SERForAudioClassification.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
    for key, value in backbone_config.items():
        setattr(trained.backbone.config, key, value)
    config |= {"backbone_config": trained.backbone.config, "layers_cut_off": trained.config.layers_cut_off}
    model = SERForAudioClassification(SERConfig(**config), backbone=trained.backbone)
    before, after = trained.config, model.config
    same_labels = sorted(before.label2id) == sorted(after.label2id)
    model.continues_head = same_labels and all(getattr(before, key) == getattr(after, key) for key in _HEAD)
    if model.continues_head:
        weights = {key: value for key, value in trained.state_dict().items() if not key.startswith("backbone.")}
        order = [before.label2id[after.id2label[index]] for index in range(after.num_labels)]
        weights |= {key: weights[key][order] for key in ("classifier.weight", "classifier.bias")}
        model.load_state_dict(weights, strict=False)
    return model


def check_not_heard(job: Job, split: Split, corpus: str) -> None:
    """Refuses to train further a model of this project that was trained on clips of the test set.

    Args:
        corpus: Name of the corpus; clips of another corpus may have the same ids.

    Raises:
        ValueError: It was, and --accept_speaker_leakage is false.
    """
    name = job.model.model_name_or_path
    if not name or not (Path(name) / RESULTS).is_file() or not is_ours(name):
        return
    folder = Path(name)
    if corpus_of(folder) != corpus:
        return
    if (folder / SPLIT).is_file():
        learned = set(load_split(folder / SPLIT).train)
    else:  # a model of all clips; its folds tested each of them
        learned = set(read_predictions(folder)["id"])
    if (both := sorted(learned & set(split.test))) and not job.data.accept_speaker_leakage:
        raise ValueError(
            f"--model_name_or_path: {name} was trained on {len(both)} of the {len(split.test)} clips of the test set "
            f"({listed(both, 3)}); their scores say nothing about new speakers. Start from a model of other clips or "
            "of the same fold, or accept it with --accept_speaker_leakage true."
        )


def stock_model(arguments: ModelArguments, config: dict[str, Any]) -> Any:
    """transformers' own `...ForSequenceClassification`, which loads without `trust_remote_code`."""
    overrides = {**arguments.parsed_backbone_config(), **config, "classifier_proj_size": arguments.classifier_proj_size}
    overrides["use_weighted_layer_sum"] = arguments.layer_mix == "weighted"
    name = arguments.model_name_or_path
    if name is not None:
        check_no_pickle(name)
    if name is None:
        kind = AutoConfig.for_model(**overrides)
    else:
        with named_if_damaged(FLAG, name):
            kind = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if kind.model_type not in WAVE_BACKBONES:
        raise ValueError(f"--head stock: {kind.model_type} is not one of {', '.join(WAVE_BACKBONES)}; use --head tanh.")
    if name is None:
        return AutoModelForAudioClassification.from_config(kind)
    options = {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True if isdir(name) else None}
    with named_if_damaged(FLAG, name):
        return AutoModelForAudioClassification.from_pretrained(name, **options, **overrides)


def trained_model(job: Job, split: Split, labels: list[str], corpus: str) -> tuple[Any, Any]:
    """A trained model to score, whose outputs come in the order of `labels`.

    Args:
        labels: Names of the classes or dimensions of the corpus.
        corpus: Name of the corpus. A model of another one was trained on none of its clips.

    Raises:
        ValueError: No model is named, it was trained on another split of this corpus, or it has other classes.
    """
    name = job.model.model_name_or_path
    if name is None:
        raise ValueError("--model_name_or_path: with --do_train false, it names the trained model to score.")
    own_split, learned = Path(name) / SPLIT, corpus_of(Path(name))
    is_comparable = own_split.is_file() and learned in (None, corpus)
    if is_comparable and load_split(own_split).sha256 != split.sha256:
        raise ValueError(
            f"{own_split}: {name} was trained on another split (protocol {load_split(own_split).protocol}, fold "
            f"{load_split(own_split).fold}); part of this test set may have been in its training. Ask for the same one."
        )
    # The class is ours, installed here: no code that lies in the folder is run.
    trust = {} if is_ours(name) else {"trust_remote_code": False}
    kind = AutoModelForAudioClassification if trust else SERForAudioClassification
    with named_if_damaged(FLAG, name):
        model = kind.from_pretrained(name, use_safetensors=True, **trust)
    answer_in_order(model, labels, accepts_fewer=bool(job.data.label_map or "label_map" in str(job.data.corpora)))
    return model, _feature_extractor(name)


def corpus_of(folder: Path) -> str | None:
    """Name of the corpus that a model was trained on, if its folder tells."""
    return read_results(folder).get("corpus", {}).get("name") if (folder / RESULTS).is_file() else None


def answer_in_order(model: Any, labels: list[str], accepts_fewer: bool) -> None:
    """Makes the outputs of `model` come in the order of `labels`, by name.

    Args:
        accepts_fewer: Whether classes of the model may be missing from `labels`; their outputs are then left out.

    Raises:
        ValueError: The names differ.
    """
    own = [model.config.id2label[index] for index in range(len(model.config.id2label))]
    if set(labels) - set(own) or (set(own) - set(labels) and not accepts_fewer):
        raise ValueError(
            f"--model_name_or_path: the model knows {', '.join(own)}; the corpus has {', '.join(labels)}. Give each "
            "label of the corpus the name that the model has for it, or null to leave its clips out, with --label_map."
        )
    order = [own.index(label) for label in labels]
    if order == list(range(len(own))):
        return

    def in_order(module: Any, inputs: Any, outputs: Any) -> Any:
        outputs.logits = outputs.logits[..., order]
        return outputs

    model.register_forward_hook(in_order)
