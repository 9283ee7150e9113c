"""Scores of each gender and each speaker, and the clips that a model is most confident and wrong about."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ser.evaluation import calibration, intervals, metrics
from ser.evaluation.scored import Scored, scored

FEW_CLIPS = 10
NUM_WORST_SPEAKERS = 5
NUM_WORST_CLIPS = 20


def gender_scores(predictions: pd.DataFrame, labels: list[str]) -> dict:
    """UAR, accuracy and ECE of each gender with 95 % intervals over its speakers, and the gaps between two genders.

    Args:
        predictions: Rows of one split; those without a gender are left out.
        labels: Names of the classes.

    Returns:
        By gender: `uar`, `accuracy`, `ece`, `n`, `speakers`, `interval_unit` and `intervals` of the three. Where there
        are two, `gap`: `between` (names), and `uar`, `accuracy`, `ece` of the first minus the second, `interval_unit`
        and `intervals` (Welch), both `None` where one gender has a single speaker: an interval over the clips of one
        speaker and one over speakers cannot be combined. Empty where no gender is known.
    """
    spreads, groups = {}, {}
    for name, rows in predictions[predictions["gender"].notna()].groupby("gender"):
        table = scored(rows, labels)
        spreads[name] = _spreads(table)
        groups[name] = {
            **{score: spread.value for score, spread in spreads[name].items()},
            "n": rows["id"].nunique(),
            "speakers": rows["speaker"].nunique(),
            "interval_unit": table.unit,
            "intervals": _intervals(table, spreads[name]),
        }
    if len(groups) == 2:
        first, second = groups
        gaps = {score: spreads[first][score] - spreads[second][score] for score in spreads[first]}
        known = all(groups[name]["speakers"] != 1 for name in (first, second))
        known &= groups[first]["interval_unit"] == groups[second]["interval_unit"]
        groups["gap"] = {
            "between": [first, second],
            **{score: gap.value for score, gap in gaps.items()},
            "interval_unit": groups[first]["interval_unit"] if known else None,
            "intervals": {score: intervals.plain_interval(gap) if known else None for score, gap in gaps.items()},
        }
    return groups


def speaker_scores(predictions: pd.DataFrame, labels: list[str]) -> dict:
    """Scores of each speaker, with intervals for new clips of the same speaker, and the speakers with the worst scores.

    UAR is over the classes that the speaker has. Its interval and that of accuracy are Wilson's, for the number of
    independent clips whose share varies as much (`intervals.equivalent_clips`): a bootstrap over a few clips that
    are all right would give an interval of no width.

    Args:
        predictions: Rows of one split; those without a speaker are left out.
        labels: Names of the classes.

    Returns:
        `per_speaker`: by name `gender`, `uar`, `accuracy`, `ece`, `n` and `intervals` of the three. `worst`: the names
        of the five speakers with the lowest UAR; speakers with fewer than 10 clips come after all others. Empty when no
        speaker is known.
    """
    known = predictions[predictions["speaker"].notna()]
    speakers = {name: _one_speaker(rows, labels) for name, rows in known.groupby("speaker")}
    if not speakers:
        return {}
    worst = sorted(speakers, key=lambda name: (speakers[name]["n"] < FEW_CLIPS, speakers[name]["uar"], name))
    return {"per_speaker": speakers, "worst": worst[:NUM_WORST_SPEAKERS]}


def worst_clips(predictions: pd.DataFrame, labels: list[str], top: int = NUM_WORST_CLIPS) -> list[dict]:
    """The wrong clips with the highest confidence, the highest first.

    Args:
        predictions: Rows of one split; a clip's probabilities are averaged over seeds.
        labels: Names of the classes.
        top: Greatest number of clips to return.

    Returns:
        `id`, `speaker`, `gender`, `truth`, `predicted`, `confidence` (probability of the predicted class) and
        `p_truth` of each.
    """
    columns = [f"p_{label}" for label in labels]
    clips = predictions.groupby("id", sort=True)
    mean, first = clips[columns].mean(), clips[["speaker", "gender", "truth"]].first()
    frame = first.assign(
        predicted=np.array(labels)[mean.to_numpy().argmax(axis=1)],
        confidence=mean.max(axis=1),
        p_truth=mean.to_numpy()[np.arange(len(mean)), metrics.label_positions(first["truth"].to_numpy(), labels)],
    )
    wrong = frame[frame["predicted"] != frame["truth"]].sort_values("confidence", ascending=False, kind="stable")
    rows = wrong.head(top).reset_index().astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def calibration_spread(table: Scored, draws: int = intervals.DRAWS, seed: int = 0) -> intervals.Spread:
    """The spread of ECE over clusters, mean over seeds; the bins of `calibration.bin_of` stay as they are.

    An interval from it has its nominal coverage at an ECE of 0.1. It is too high where the true ECE is near 0, since
    the estimate cannot be below 0: an interval above 0 does not prove miscalibration.

    Args:
        table: Rows of one split.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.
    """
    confidence, right = calibration.confidence_of(table.probabilities, table.truth)
    bins = np.zeros(len(confidence), dtype=np.int64)
    for run in range(table.num_seeds):
        bins[table.seed == run] = calibration.bin_of(confidence[table.seed == run])
    shape = (table.num_seeds, int(bins.max()) + 1)
    cells = np.ravel_multi_index((table.seed, bins), shape)
    parts = [
        intervals.cluster_sums(table.cluster, cells, int(np.prod(shape)), weights)
        for weights in (np.ones(len(bins)), right.astype(float), confidence)
    ]
    sums = np.stack(parts, axis=-1).reshape(-1, *shape, 3)

    def mean_error(totals: np.ndarray) -> np.ndarray:
        return calibration.calibration_error_of_bins(*np.moveaxis(totals, -1, 0)).mean(axis=-1)

    effective = intervals.effective_clusters(np.bincount(table.cluster)[:, None])
    total = sums.sum(axis=0)
    spread = intervals.spread_of(mean_error(total), mean_error(intervals.resample(sums, draws, seed)), effective)
    return replace(spread, least=calibration.least_error_of_bins(total[..., 0], total[..., 1]))


def _spreads(table: Scored) -> dict[str, intervals.Spread]:
    """Spreads of UAR, accuracy and ECE over the clusters of a group."""
    spreads = intervals.score_spreads(table.confusions(), moments=table.moments())
    return {"uar": spreads["uar"], "accuracy": spreads["accuracy"], "ece": calibration_spread(table)}


def _intervals(table: Scored, spreads: dict[str, intervals.Spread]) -> dict:
    """Intervals of UAR, accuracy and ECE of a group."""
    support = np.bincount(table.truth[table.seed == 0])
    return {
        "uar": intervals.bounded_interval(spreads["uar"], intervals.equivalent_clips(support)),
        "accuracy": intervals.bounded_interval(spreads["accuracy"], support.sum()),
        "ece": intervals.plain_interval(spreads["ece"], (0.0, 1.0)),
    }


def _one_speaker(rows: pd.DataFrame, labels: list[str]) -> dict:
    """An entry of `speaker_scores`."""
    table = scored(rows, labels)
    confusions = table.confusions().sum(axis=0)
    support = confusions[0].sum(axis=1)
    uar, accuracy = metrics.uar(confusions).mean(), metrics.accuracy(confusions).mean()
    clips = intervals.equivalent_clips(support)
    spread = calibration_spread(table, draws=500)
    return {
        "gender": next(iter(rows["gender"].dropna()), None),
        "uar": float(uar),
        "accuracy": float(accuracy),
        "ece": spread.value,
        "n": rows["id"].nunique(),
        "intervals": {
            "uar": calibration.wilson_interval(uar * clips, clips),
            "accuracy": calibration.wilson_interval(accuracy * support.sum(), support.sum()),
            "ece": intervals.plain_interval(spread, (0.0, 1.0)),
        },
    }
