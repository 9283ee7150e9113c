"""The head of a run, fitted on statistics of the frozen backbone: all of a probe, or the start of fine-tuning."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ser.data.augment import build_augmentation
from ser.data.batching import Clips, Collator
from ser.data.splits import Split
from ser.evaluation.layers import layer_section
from ser.training.arguments import ModelArguments
from ser.training.balance import balancing, draw_weights, drawn_classes
from ser.training.frozen_features import FrozenFeatures, corpus_statistics
from ser.training.head import fit_head
from ser.training.jobs import Job, targets_of
from ser.training.layer_choice import USUAL_STRENGTH, Choice, choose_layer
from ser.training.losses import build_loss, concordance_loss
from ser.training.provenance import encoder_name
from ser.training.scored_clips import ScoredClips, cutting_of, outputs_of_waves


def starts_from_probe(arguments: ModelArguments, continues_head: bool = False) -> bool:
    """Whether the head is first fitted on frozen statistics.

    The flag decides; by default true if the backbone is pretrained and no trained head was taken over.
    """
    if arguments.train_mode == "probe":
        return True
    if arguments.start_from_probe is not None:
        return arguments.start_from_probe
    if arguments.layer_mix == "best":
        return True
    if continues_head:
        return False
    frames_are_mixed = arguments.pooling == "attentive_stats" and arguments.layer_mix == "weighted"
    return arguments.model_name_or_path is not None and arguments.head != "stock" and not frames_are_mixed


@dataclass
class FrozenHeads:
    """Shared by the runs of all folds and seeds: the statistics of the backbone, and the layer that each fold chose.

    Attributes:
        dataset: The prepared corpus.
        cache: Folder where statistics are cached.
    """

    dataset: Any
    cache: Path
    features: dict[str, FrozenFeatures] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    sections: dict[str, list[dict[str, Any]] | None] = field(default_factory=dict)

    def prepare(self, job: Job, model: Any, collator: Collator) -> None:
        """Runs the backbone of `model` over the corpus, unless its statistics are there already."""
        if _backbone_key(job) not in self.features:
            copies = job.model.probe_augmented_copies
            augment = build_augmentation(job.data.augmentations) if copies else None
            clips = Clips(self.dataset, targets_of(job, self.dataset), augment, job.data.split_seed)
            self.features[_backbone_key(job)] = corpus_statistics(
                clips, model, collator, self.cache, copies, encoder_name(job)
            )

    def of(self, job: Job) -> FrozenFeatures:
        """The statistics that [`prepare`] made for `job`."""
        return self.features[_backbone_key(job)]

    def fit(self, job: Job, model: Any, split: Split, clips: Clips) -> dict[str, Any]:
        """Chooses layer and strength by cross-validation in train if they are not given, and fits the head of `model`.

        Returns:
            The section `head` of `results.json`: `layer_mix`, `strength`, `objective` and, after a choice, its
            cross-validated score.
        """
        features, targets = self.of(job), np.asarray(clips.targets)
        choice = self._choice(job, model, clips, targets, split)
        strength = job.model.head_strength
        if strength is None:
            strength = choice.strength if choice else USUAL_STRENGTH
        if choice and job.model.layer_mix == "best":
            model.new_head(choice.layer_mix)
        statistics = torch.cat([features.of(clips.ids, copy) for copy in range(len(features.tables))])
        repeated = np.tile(targets, (len(features.tables),) + (1,) * (targets.ndim - 1))
        corpora = None
        if "corpus" in balancing(job.model):
            corpora = {"corpus": np.tile(clips.rows["corpus"], len(features.tables))}
        reached = _fit(job, model, statistics, repeated, strength, corpora)
        found = {"layer_mix": model.config.layer_mix, "strength": strength, "objective": reached}
        metric = "cross_validated_ccc" if targets.ndim == 2 else "cross_validated_log_loss"
        return found | ({metric: choice.score if targets.ndim == 2 else -choice.score} if choice else {})

    def _choice(self, job: Job, model: Any, clips: Clips, targets: np.ndarray, split: Split) -> Choice | None:
        """The choice by cross-validation in train; None if there is nothing to choose."""
        mix, last = job.model.layer_mix, self.of(job).tables[0].shape[1] - 1
        if mix == "weighted" or (mix != "best" and job.model.head_strength is not None):
            return None
        key = _choice_key(job, split)
        if key not in self.choices:
            table = self.of(job).of(clips.ids).numpy()
            vectors = table[..., : table.shape[-1] // 2] if job.model.pooling == "mean" else table
            layers = {"best": [*range(last + 1), "all"], "last": [last]}.get(mix) or [mix if mix == "all" else int(mix)]
            if job.model.pooling == "attentive_stats" and "all" in layers:
                layers.remove("all")
            rows = {"id": clips.ids, "speaker": clips.rows["speaker"][:]}
            self.choices[key] = choose_layer(vectors, targets, rows, job.labels(self.dataset), layers)
        return self.choices[key]

    def layers_of(self, job: Job, split: Split) -> list[pd.DataFrame]:
        """The held-out predictions behind the choice for `split`, with a column `chosen`; empty without a choice."""
        choice = self.choices.get(_choice_key(job, split))
        if choice is None:
            return []
        table = choice.held_out.assign(fold=job.fold, chosen=choice.held_out["layer"] == str(choice.layer_mix))
        return [table]

    def section_of(self, job: Job, split: Split) -> list[dict[str, Any]] | None:
        """The section `layers` of `results.json`, computed once for the seeds that share a choice."""
        key = _choice_key(job, split)
        if key not in self.sections:
            self.sections[key] = layer_section(self.layers_of(job, split), job.labels(self.dataset))
        return self.sections[key]

    def outputs_by(self, job: Job, model: Any, collator: Collator) -> Callable[[Clips], tuple[np.ndarray, np.ndarray]]:
        """A function from clips to the outputs of `model`, computed from statistics, and the targets.

        The windows of long clips go through the whole model: their length is chosen in train, so it differs by fold.
        """
        features, cutting = self.of(job), cutting_of(model, collator.feature_extractor)

        def outputs_of(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
            outputs, scored = features.logits(model, clips.ids), ScoredClips(clips, cutting)
            if len(scored.long_rows):
                outputs = outputs.astype(np.float64)
            for row in scored.long_rows.tolist():
                outputs[row] = outputs_of_waves(model, collator, [scored.wave(row)], cutting)[0]
            return outputs, np.asarray(clips.targets)

        return outputs_of


def _backbone_key(job: Job) -> str:
    """A key for the statistics: a backbone from scratch depends on the seed, a pretrained one does not."""
    return "" if job.model.model_name_or_path else str(job.seed)


def _choice_key(job: Job, split: Split) -> str:
    labels = str(job.seed) if job.model.shuffle_train_labels else ""
    return f"{split.sha256} {_backbone_key(job)} {labels}"


def _fit(
    job: Job, model: Any, statistics: torch.Tensor, targets: np.ndarray, strength: float, corpora: Any = None
) -> float:
    """Fits the head to classes, or to values; values are standardised during the fit."""
    if targets.ndim == 2:
        values = torch.from_numpy(targets).float()
        mean, deviation = values.mean(0), values.std(0, correction=0).clamp(min=1e-6)

        def concordance(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            return concordance_loss(outputs, truth).expand(len(truth))

        reached = fit_head(model, statistics, (values - mean) / deviation, concordance, strength)
        with torch.no_grad():
            model.classifier.weight.mul_(deviation[:, None])
            model.classifier.bias.mul_(deviation).add_(mean)
        return reached
    counts = np.bincount(targets, minlength=model.config.num_labels)
    balance = balancing(job.model)
    drawn = drawn_classes(balance, targets, corpora, len(counts))
    loss = build_loss(job.model, drawn, job.training.label_smoothing_factor)
    weights = draw_weights(balance, targets, corpora)
    if weights is not None:  # equal in expectation to sampling with these weights
        weights = torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
    probabilities = torch.nn.functional.one_hot(torch.from_numpy(targets), len(counts)).float()
    return fit_head(model, statistics, probabilities, loss, strength, weights)
