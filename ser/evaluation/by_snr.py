"""Scores of a run by signal-to-noise ratio of the test clips."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation.per_corpus import corpus_scores
from ser.predictions import test_rows

NUM_GROUPS = 3
# With fewer clips than this, a third of them says nothing.
MIN_CLIPS = 60


def scores_by_snr(predictions: pd.DataFrame, snr_db: Mapping[str, float], labels: list[str]) -> list[dict[str, Any]]:
    """The scores of three equal groups of test clips, from the noisiest to the cleanest.

    Args:
        predictions: Those of a run.
        snr_db: Signal-to-noise ratio in dB by id; clips that are not in it are left out.
        labels: Names of the classes, or of the dimensions of a regression.

    Returns:
        For each group `low` and `high`, the bounds in dB, and what `corpus_scores` gives. Empty where fewer than 60
        clips were tested, or where the clips have too few values to be grouped.
    """
    test = test_rows(predictions)
    snr = test["id"].map(snr_db)
    test, snr = test[snr.notna()], snr[snr.notna()]
    clips = snr[~test["id"].duplicated()]
    if len(clips) < MIN_CLIPS:
        return []
    bounds = np.quantile(clips, np.arange(NUM_GROUPS + 1) / NUM_GROUPS)
    if len(set(bounds)) < len(bounds):
        return []
    groups = np.clip(np.searchsorted(bounds, snr, side="right") - 1, 0, NUM_GROUPS - 1)
    return [
        {"low": float(bounds[group]), "high": float(bounds[group + 1]), **corpus_scores(test[groups == group], labels)}
        for group in range(NUM_GROUPS)
    ]
