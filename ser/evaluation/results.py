"""`results.json`: every figure of a run, computed once from its predictions; pages and commands read only this."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ser.evaluation import sections, subgroups
from ser.evaluation.calibration_sections import calibration_section
from ser.evaluation.format import HEADLINES, WHICH_TO_PRINT
from ser.evaluation.per_corpus import corpora_section
from ser.evaluation.scored import check_once_per_seed
from ser.files import json_types
from ser.predictions import check_columns, dimensions_of
from ser.run_folder import FORMAT


def build_results(predictions: pd.DataFrame, labels: list[str], context: Mapping[str, Any]) -> dict:
    """The figures from the predictions, together with the sections that the run passes on.

    Args:
        predictions: Rows of dev and test, of one run or pooled over folds and seeds; each test clip once for each seed.
        labels: Class names in the model's order, or the dimensions of a regression.
        context: The other sections, in the shape of `results.json`: `protocol`, `corpus`, `label_source`, `model`,
            `seconds`, `versions`, `config`, `audit`, ... They are passed on. Two are also read: `calibration`, as
            `calibration_section` takes it, and `protocol`, to which `folds` and `seeds` are added where it lacks them.

    Returns:
        The content of `results.json`. Sections that cannot be computed are absent: `dev` or `test` without rows;
        `folds` and `seeds` (mean and deviation over them) where there is one; `gender` and `speakers` where they are
        unknown; `corpora` where there is one.

    Raises:
        ValueError: A missing column, a clip tested twice under one seed, or values that are no probabilities.
    """
    check_columns(predictions)
    parts = {split: rows for split in ("test", "dev") if len(rows := predictions[predictions["split"] == split])}
    if not parts:
        raise ValueError(f"split holds {sorted(set(predictions['split']))}; expected rows of 'test' or of 'dev'")
    if "test" in parts:
        check_once_per_seed(parts["test"])
    regression = bool(dimensions_of(predictions))
    fill = _regression_sections if regression else _classification_sections
    results = {
        "format": FORMAT,
        "task": "regression" if regression else "classification",
        "labels": list(labels),
        "per_run": [],
        **context,
        **fill(parts, labels, context),
    }
    if "folds" in results:
        results["which_to_print"] = WHICH_TO_PRINT
    results["protocol"] = {**_folds_and_seeds(predictions), **context.get("protocol", {})}
    return json_types({name: section for name, section in results.items() if section is not None and section != {}})


def _classification_sections(parts: Mapping[str, pd.DataFrame], labels: list[str], context: Mapping[str, Any]) -> dict:
    """The sections that a classification fills."""
    scores = {
        split: {**sections.classification_scores(rows, labels), **sections.classification_intervals(rows, labels)}
        for split, rows in parts.items()
    }
    filled = {
        **scores,
        "calibration": calibration_section(parts, labels, context.get("calibration", {})),
    }
    if "test" not in parts:
        return filled
    test = parts["test"]
    support = [entry["support"] for entry in scores["test"]["per_class"].values()]
    return {
        **filled,
        # Guessing gets 1/C of the UAR whatever the classes' sizes; always the largest class, its share of clips.
        "chance": {
            "uar": 1 / np.count_nonzero(support),
            "uar_upper": upper_bound_of_guessing(np.array(support)),
            "accuracy": max(support) / sum(support),
        },
        **_over_runs(test, labels, sections.classification_scores),
        "gender": subgroups.gender_scores(test, labels),
        "speakers": subgroups.speaker_scores(test, labels),
        "corpora": corpora_section(test, labels),
        "worst_clips": subgroups.worst_clips(test, labels),
    }


def _regression_sections(parts: Mapping[str, pd.DataFrame], labels: list[str], context: Mapping[str, Any]) -> dict:
    """The sections that a regression fills."""
    scores = {
        split: {**sections.regression_scores(rows, labels), **sections.regression_intervals(rows, labels)}
        for split, rows in parts.items()
    }
    if "test" not in parts:
        return scores
    test = parts["test"]
    return {
        **scores,
        **_over_runs(test, labels, sections.regression_scores),
        "corpora": corpora_section(test, labels),
    }


def upper_bound_of_guessing(support: np.ndarray) -> float:
    """The UAR that guessing does not exceed 39 times in 40: 1/K + z sqrt(sum_c (1/K) (1 - 1/K) / n_c) / K, K classes.

    Args:
        support: Clips of each class, `[C]`; those without any are left out.
    """
    present = support[support > 0]
    share = 1 / len(present)
    return float(share + norm.ppf(0.975) * np.sqrt((share * (1 - share) / present).sum()) * share)


def _over_runs(test: pd.DataFrame, labels: list[str], score: Callable[[pd.DataFrame, list[str]], dict]) -> dict:
    """`per_run`, and mean and deviation (n - 1) of the scores over `folds` and over `seeds`, where there are several.

    A fold's score is its mean over seeds; a seed's score is that of its pooled folds.
    """
    found: dict[str, Any] = {
        "per_run": [
            {"seed": int(seed), "fold": int(fold), **_headline(score(rows, labels))}
            for (seed, fold), rows in test.groupby(["seed", "fold"])
        ]
    }
    for name, column in (("folds", "fold"), ("seeds", "seed")):
        groups = [_headline(score(rows, labels)) for _, rows in test.groupby(column)]
        if len(groups) > 1:
            found[name] = pd.DataFrame(groups).drop(columns="n").agg(["mean", "std"]).to_dict()
    return found


def _headline(scores: Mapping[str, Any]) -> dict:
    """The scores of a run that tables show."""
    return {name: scores[name] for name in (*HEADLINES, "n") if name in scores}


def _folds_and_seeds(predictions: pd.DataFrame) -> dict:
    """The folds and seeds of the predictions."""
    return {f"{column}s": sorted(map(int, predictions[column].unique())) for column in ("fold", "seed")}
