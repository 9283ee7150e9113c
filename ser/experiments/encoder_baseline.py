"""The baseline that fine-tuning must beat: scikit-learn's logistic regression on statistics of the frozen encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ser.data.batching import Collator
from ser.experiments.baseline import Baseline, Values, checked_splits, decide, run_folds
from ser.training.arguments import ModelArguments
from ser.training.frozen_head import FrozenHeads
from ser.training.jobs import Job
from ser.training.layer_choice import STRENGTHS, choose_layer, matrix_of
from ser.training.models import new_model
from ser.training.provenance import shown_name

# Arguments that the encoder's statistics depend on.
_KEPT = ("model_name_or_path", "backbone_config", "whisper_full_window", "pooling")


def run_encoder_baseline(dataset: Any, job: Job, folder: Path) -> dict[str, Any]:
    """Trains and scores logistic regression on the folds that a configuration asks for, and writes the
    folder of a run.

    It learns from the same statistics that a run of this configuration caches. Layer and strength are chosen inside
    train, see `layer_choice`.

    Args:
        dataset: Prepared corpus.
        job: The configuration, with fold -1; its folder is not used.
        folder: Where the run goes.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: No pretrained encoder is named, the task is a regression, `--fold` is no fold, the split leaks, or
            `folder` holds something else.
    """
    if job.model.model_name_or_path is None:
        raise ValueError(
            "--model_name_or_path: --features encoder needs a pretrained encoder; the configuration names none. Name "
            "one, or use --features plain."
        )
    splits, labels = checked_splits(job.data, dataset), job.labels(dataset)
    vectors = encoder_vectors(dataset, job)

    def fit(values: Values, truth: Values, clips: Any) -> tuple[Values, dict[str, Any]]:
        return fit_logistic(values, truth, {name: clips[name] for name in ("id", "speaker")}, labels)

    model = {
        "backbone": f"logistic regression on frozen {shown_name(job.model.model_name_or_path)}",
        "architecture": "StandardScaler, LogisticRegression with balanced class weights",
        "layers": vectors.shape[1],
        "values_per_layer": vectors.shape[2],
        "tried_inside_train": f"every layer and all; strength {', '.join(f'{value:g}' for value in STRENGTHS)}",
    }
    arguments = {name: getattr(job.model, name) for name in _KEPT}
    baseline = Baseline(dataset, vectors, job.data, "encoder", job.seed, fit, model, arguments)
    return run_folds(baseline, splits, folder, job.training.overwrite)


def encoder_vectors(dataset: Any, job: Job) -> np.ndarray:
    """Pooled vectors of every clip and layer, `[N, L + 1, E]`: the mean over frames and, unless `--pooling mean`, the
    deviation; from the cache that runs share."""
    kept = {name: getattr(job.model, name) for name in (*_KEPT, "attn_implementation")}
    # Attention over frames starts as the plain mean and deviation, which are what the statistics hold.
    pooling = "mean" if job.model.pooling == "mean" else "mean_std"
    job = replace(job, model=ModelArguments(**kept | {"pooling": pooling, "head": "linear", "layer_mix": "all"}))
    model, feature_extractor = new_model(job, job.labels(dataset))
    heads = FrozenHeads(dataset, Path(job.data.cache_dir or datasets.config.HF_DATASETS_CACHE))
    heads.prepare(job, model, Collator(feature_extractor))
    return model.vectors_of(heads.of(job).of(dataset["id"])).numpy()


def fit_logistic(
    values: Values, truth: Values, rows: dict[str, list], labels: list[str]
) -> tuple[Values, dict[str, Any]]:
    """Logistic regression on the layer, and with the strength, that cross-validation inside train chooses.

    Args:
        values: Vectors of `train`, `dev` and `test`, `[N, L + 1, E]`.
        truth: Class numbers of the same; every class occurs in train.
        rows: `id` and `speaker` of the clips of train.
        labels: Names of the classes.

    Returns:
        Decision values of dev and test, `[N, C]`, and the choice: `head` with `layer_mix`, `strength` and
        `cross_validated_log_loss`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    layers = [*range(values["train"].shape[1]), "all"]
    choice = choose_layer(values["train"], truth["train"], rows, labels, layers)
    # A penalty of `strength / 2` times the squared weights on the mean loss is this C on the sum of losses.
    c = 1 / (choice.strength * len(truth["train"]))
    machine = make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=2000))
    machine.fit(matrix_of(values["train"], choice.layer_mix), truth["train"])
    decisions = {part: decide(machine, matrix_of(values[part], choice.layer_mix)) for part in ("dev", "test")}
    head = {"layer_mix": choice.layer_mix, "strength": choice.strength, "cross_validated_log_loss": -choice.score}
    return decisions, {"head": head}
