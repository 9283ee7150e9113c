"""Baselines on the folds that a model is tested on: each learns from train alone and writes the folder of a run.

This module: a support vector machine on plain acoustic functionals, whose kernel and C are chosen on dev. See
`encoder_baseline` for logistic regression on a frozen encoder. Probabilities are a softmax over the decision values,
with one temperature fitted on dev: Platt scaling would split each fold's training clips once more and is noisy on so
few.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.data_arguments import DataArguments
from ser.data.splits import Split, check_split, make_split, num_folds_of, save_split
from ser.evaluation.calibration import fit_temperature
from ser.evaluation.compare import compare
from ser.evaluation.format import SCORES, baselines_of, format_interval, protocol_words
from ser.evaluation.metrics import confusion_matrix, uar
from ser.evaluation.results import build_results
from ser.experiments.functionals import check_features, corpus_functionals
from ser.predictions import prediction_table, read_predictions, write_predictions
from ser.run_folder import SPLIT, add_to_results, claim_run_folder, fold_folder, read_results, write_results
from ser.training.arguments import merged_arguments
from ser.training.pooled_runs import pooled_context, pooled_predictions
from ser.training.provenance import run_context

NAMES = {"plain": "SVM on acoustic functionals", "egemaps": "SVM on eGeMAPS"}
# Kernels and values of C to choose from on dev. Of equal ones the first wins, which is the most regularised.
MACHINES = (*(("linear", c) for c in (0.001, 0.01, 0.1, 1.0)), *(("rbf", c) for c in (0.3, 1.0, 3.0, 10.0)))


Values = dict[str, np.ndarray]
# From the values and classes of train, dev and test, and the clips of train: decision values `[N, C]` of dev and test,
# and the section of `results.json` that says what was chosen.
Fit = Callable[[Values, Values, Any], tuple[Values, dict[str, Any]]]


@dataclass(frozen=True)
class Baseline:
    """What is the same in every fold.

    Attributes:
        dataset: Prepared corpus.
        values: Features of its clips, `[N, ...]`.
        data: Corpus and protocol.
        features: What `values` are: `plain`, `egemaps` or `encoder`.
        seed: Written into the predictions; nothing is drawn at random.
        fit: Learns from train and gives decision values of dev and test.
        model: The section `model` of `results.json`; `backbone` is the baseline's name.
        arguments: Further entries of `run_config.yaml`.
    """

    dataset: Any
    values: np.ndarray
    data: DataArguments
    features: str
    seed: int
    fit: Fit
    model: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """The content of the folder's `run_config.yaml`."""
        return merged_arguments(self.data) | self.arguments | {"features": self.features, "seed": self.seed}


def run_baseline(
    dataset: Any, data: DataArguments, folder: Path, features: str = "plain", seed: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Trains and scores the SVM on the folds that `data` asks for, and writes the folder of a run.

    Args:
        dataset: Prepared corpus.
        data: Corpus and protocol; `fold` may be `all`.
        folder: Where the run goes.
        features: `plain` or `egemaps`.
        seed: Written into the predictions; nothing is drawn at random.
        overwrite: Whether another run in `folder` may be replaced.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: The task is a regression, `--fold` is no fold, the split leaks, or `folder` holds something else.
        ImportError: eGeMAPS without openSMILE.
    """
    check_features(features)
    splits = checked_splits(data, dataset)
    values = corpus_functionals(dataset, features, data.cache_dir, data.num_proc)
    model = {
        "backbone": NAMES[features],
        "architecture": "StandardScaler, SVC with balanced class weights",
        "functionals": values.shape[1],
        "tried_on_dev": ", ".join(f"{kernel} C={c:g}" for kernel, c in MACHINES),
    }

    def fit(values: Values, truth: Values, _: Any) -> tuple[Values, dict[str, Any]]:
        decisions, machine = fit_machine(values, truth)
        return decisions, {"svm": machine}

    return run_folds(Baseline(dataset, values, data, features, seed, fit, model), splits, folder, overwrite)


def run_folds(baseline: Baseline, splits: Sequence[Split], folder: Path, overwrite: bool) -> dict[str, Any]:
    """Trains and scores a baseline on every fold, and writes the folder of a run.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: `folder` holds something else.
    """
    dataset, seed = baseline.dataset, baseline.seed
    claim_run_folder(folder, baseline.config(), overwrite)
    if baseline.data.fold != "all":
        return run_fold(baseline, splits[0], folder)
    folders = [fold_folder(folder, seed, split.fold) for split in splits]
    for split, own in zip(splits, folders, strict=True):
        own.mkdir(parents=True, exist_ok=True)
        run_fold(baseline, split, own)
    table = write_predictions(pooled_predictions(folders), folder)
    context = pooled_context(folders, baseline.config(), dataset)
    results = build_results(table, dataset.features["emotion"].names, context)
    write_results(results, folder)
    return results


def checked_splits(data: DataArguments, dataset: Any) -> list[Split]:
    """The folds that `--fold` asks for, checked as training checks them.

    Raises:
        ValueError: The task is a regression, there is no such fold, or one leaks.
    """
    if data.parsed_target_columns():
        raise ValueError(
            f"--target_columns: {data.target_columns!r} is a regression, and the baseline a classifier; leave it out."
        )
    return [checked_split(data, dataset, fold) for fold in folds_of(data, dataset)]


def folds_of(data: DataArguments, dataset: Any) -> list[int]:
    """Numbers of the folds that `--fold` asks for.

    Raises:
        ValueError: `--fold` is neither a number nor `all`.
    """
    if data.fold == "all":
        return list(range(num_folds_of(data.protocol, dataset, data.num_folds)))
    if not data.fold.isdigit():
        raise ValueError(f"--fold: {data.fold!r} is neither a number from 0 nor 'all'.")
    return [int(data.fold)]


def checked_split(data: DataArguments, dataset: Any, fold: int) -> Split:
    """One fold of the protocol, checked as training checks it."""
    split = make_split(dataset, data.protocol, fold, data.num_folds, data.split_seed, data.splits_file)
    check_split(split, dataset, data.accept_speaker_leakage, data.accept_near_copies)
    return split


def run_fold(baseline: Baseline, split: Split, folder: Path) -> dict[str, Any]:
    """Trains and scores one fold and writes its folder; `results.json` comes last."""
    dataset, started, fold = baseline.dataset, time.monotonic(), split.fold
    labels, rows = dataset.features["emotion"].names, part_rows(split, dataset["id"])
    truth = {part: np.asarray(dataset.select(own)["emotion"]) for part, own in rows.items()}
    values = {part: baseline.values[own] for part, own in rows.items()}
    decisions, chosen = baseline.fit(values, truth, dataset.select(rows["train"]))
    temperature = fit_temperature(decisions["dev"], truth["dev"])
    tables = []
    for part in ("dev", "test"):
        run = {"split": part, "seed": baseline.seed, "fold": fold}
        clips = dataset.select(rows[part])
        tables.append(prediction_table(clips, decisions[part] / temperature, truth[part], labels, **run))
    save_split(split, folder / SPLIT, dataset)
    table = write_predictions(tables, folder)
    calibration = {"temperature": temperature, "reading": "balanced"}
    outcome = {"calibration": calibration, "seconds": {"train": time.monotonic() - started}}
    config = baseline.config() | {"fold": str(fold)}
    num_folds = num_folds_of(baseline.data.protocol, dataset, baseline.data.num_folds)
    context = run_context(split, dataset, num_folds, config, {"model": baseline.model, **chosen}, outcome)
    results = build_results(table, labels, context)
    write_results(results, folder)
    return results


def part_rows(split: Split, ids: list[str]) -> dict[str, list[int]]:
    """Rows of the corpus in each part of a split."""
    row_of = {clip: row for row, clip in enumerate(ids)}
    return {part: [row_of[clip] for clip in own] for part, own in split.parts.items()}


def fit_machine(
    values: dict[str, np.ndarray], truth: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Trains every SVM of `MACHINES` on train and takes the one with the best UAR on dev.

    Args:
        values: Functionals of `train`, `dev` and `test`, `[N, K]`.
        truth: Class numbers of the same; every class occurs in train.

    Returns:
        Decision values of dev and test, `[N, C]`, and the choice: `kernel`, `C`, `dev_uar`.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    best, num_classes = None, int(truth["train"].max()) + 1
    chosen: dict[str, Any] = {"dev_uar": -1.0}
    for kernel, c in MACHINES:
        machine = make_pipeline(StandardScaler(), SVC(kernel=kernel, C=c, class_weight="balanced"))
        machine.fit(values["train"], truth["train"])
        predicted = decide(machine, values["dev"]).argmax(axis=1)
        reached = float(uar(confusion_matrix(truth["dev"], predicted, num_classes)))
        if reached > chosen["dev_uar"]:
            best, chosen = machine, {"kernel": kernel, "C": c, "dev_uar": reached}
    return {part: decide(best, values[part]) for part in ("dev", "test")}, chosen


def decide(machine: Any, values: np.ndarray) -> np.ndarray:
    """Decision values `[N, C]`; scikit-learn gives two classes a single column."""
    decisions = machine.decision_function(values)
    return np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions


def attach_baseline(run_dir: Path, baseline_dir: Path) -> dict[str, Any]:
    """Writes the comparison with a baseline into the `results.json` of a model's run.

    Args:
        run_dir: Run of the model.
        baseline_dir: Run of the baseline on the same clips and folds.

    Returns:
        The content of the run's `results.json`. Its section `baseline` holds, as `functionals` and as `encoder`, what
        was attached: `name`, `uar`, `interval` and `difference` (`uar` of the model minus that of the baseline,
        `interval`, `p`).

    Raises:
        ValueError: The two tested other clips or other folds.
        FileNotFoundError: One of the two is not finished.
    """
    results, baseline = read_results(run_dir), read_results(baseline_dir)
    found = compare(read_predictions(run_dir), read_predictions(baseline_dir))["uar"]
    kind = "encoder" if baseline["config"].get("features") == "encoder" else "functionals"
    own = {
        "name": baseline["model"]["backbone"],
        "uar": baseline["test"]["uar"],
        "interval": baseline["test"]["intervals"]["uar"],
        "difference": {"uar": found["difference"], "interval": found["interval"], "p": found["p_value"]},
    }
    return add_to_results(run_dir, baseline={**baselines_of(results), kind: own})


def baseline_words(results: dict[str, Any]) -> str:
    """The headline of a baseline's `results.json` in one line."""
    test, name = results["test"], results["model"]["backbone"]
    scores = (f"{key} {format_interval(test[key], test['intervals'][key])}" for key in SCORES)
    return f"{name}, {protocol_words(results['protocol'])}, {test['n']} test clips: {'  '.join(scores)}"
