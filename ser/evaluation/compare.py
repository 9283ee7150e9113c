"""Two runs on the same clips: how much their scores differ, and whether chance alone explains it.

The speaker is the unit of both answers: the interval draws speakers, as in `ser.evaluation.intervals`, and the test
swaps the two runs' predictions for all clips of a speaker at once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ser.evaluation import intervals, least_errors, metrics
from ser.evaluation.format import TITLES, format_difference, format_number, format_p
from ser.evaluation.scored import check_once_per_seed, scored
from ser.predictions import labels_of, read_predictions
from ser.run_folder import predictions_to_pool

Score = Callable[[np.ndarray], np.ndarray]
PERMUTATIONS = 9999
# Up to this many speakers, all swaps are fewer than PERMUTATIONS: they are all counted, and none is drawn.
MOST_TO_COUNT = 14
# One clip prepared twice may differ by a sample or two of its resampling.
MAX_SECONDS_APART = 0.01
SCORES = {"uar": metrics.uar, "accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1}


def compare(a: pd.DataFrame, b: pd.DataFrame, same_folds: bool = True, seed: int = 0) -> dict:
    """Scores of run A minus those of run B, on the same test clips.

    Args:
        a: Predictions of run A; rows of dev are left out. A run of several seeds counts with its mean over them.
        b: Predictions of run B. It may have other seeds than A.
        same_folds: Whether a clip must have been tested in the same fold of both, trained on the same clips.
        seed: Seed of the draws and swaps.

    Returns:
        For `uar`, `accuracy` and `macro_f1`: `a`, `b`, `difference`, its 95 % `interval` (`None` for one speaker) and
        the two-sided `p_value`. Besides, `clips`, `clusters`, `interval_unit` ("speaker", or "clip" where speakers are
        unknown), `permutations` (number of swaps) and `smallest_p`, the smallest p-value possible with
        this many clusters.

    Raises:
        ValueError: The runs differ in classes, clips, truth, speakers or folds; the message names which.
    """
    a, b = _test_rows(a, "A"), _test_rows(b, "B")
    _check_same(a, b, ("truth", "speaker", "fold") if same_folds else ("truth", "speaker"))
    return _paired(a, b, seed)


def predictions_to_compare(run: str | Path) -> pd.DataFrame:
    """The predictions of a run, or of one of its seeds, whose folder `seed-1` holds only the folders of its folds.

    Args:
        run: The folder of a run or of a seed, or `predictions.parquet`.

    Raises:
        FileNotFoundError, ValueError: As `read_predictions`.
    """
    return pd.concat([read_predictions(path) for path in predictions_to_pool(run)], ignore_index=True)


def leak_gap(speaker_run: pd.DataFrame, random_run: pd.DataFrame, seed: int = 0) -> dict:
    """How much a split that leaks speakers adds to the scores of one model.

    Args:
        speaker_run: Predictions of all folds with disjoint speakers, pooled: every clip is tested.
        random_run: Predictions of all folds of random clips, pooled: the same clips, other folds.
        seed: Seed of the draws and swaps.

    Returns:
        As `compare`, where A is the random split and B the speaker-independent one: a positive `difference` is what
        the leak adds.

    Raises:
        ValueError: The runs differ in classes, clips, truth or speakers.
    """
    return compare(random_run, speaker_run, same_folds=False, seed=seed)


def comparison_table(result: dict, name_a: str, name_b: str) -> str:
    """What `compare` found, as lines for a terminal.

    Args:
        result: From `compare` or `leak_gap`.
        name_a: Name of run A.
        name_b: Name of run B.
    """
    lines = [f"A: {name_a}", f"B: {name_b}", "", f"{'':10}{'A':>8}{'B':>8}   A - B, 95 % interval"]
    for name in SCORES:
        figures = result[name]
        difference = f"{format_difference(figures['difference'], figures['interval']):28}{format_p(figures['p_value'])}"
        lines.append(
            f"{TITLES[name]:10}{format_number(figures['a']):>8}{format_number(figures['b']):>8}   {difference}"
        )
    unit = result["interval_unit"]
    lines += [
        "",
        f"{result['clips']} clips; {result['clusters']} {unit}s, resampled for the interval and swapped for p.",
    ]
    if unit == "clip":
        lines.append(
            "Speakers are not known: clips count as independent, so that the interval is too narrow and p too small."
        )
    if result["smallest_p"] > 0.01:
        lines.append(f"The smallest p of so many {unit}s is {result['smallest_p']:.3g}; pool more folds (--fold all).")
    return "\n".join(lines)


def comparison_rows(result: dict, name_a: str, name_b: str) -> list[tuple[str, ...]]:
    """The same figures as cells of a table, the header first; arguments as for `comparison_table`."""
    rows: list[tuple[str, ...]] = [("", name_a, name_b, "difference", "p")]
    for name in SCORES:
        figures = result[name]
        rows.append(
            (
                TITLES[name],
                format_number(figures["a"]),
                format_number(figures["b"]),
                format_difference(figures["difference"], figures["interval"]),
                format_p(figures["p_value"]).removeprefix("p ").removeprefix("= "),
            )
        )
    return rows


def permutation_p_value(confusions: np.ndarray, score: Score, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """Two-sided p, in (0, 1], of the hypothesis that a speaker's predictions could come from either run.

    With up to 14 clusters that differ, p is the share of all swaps whose difference is at least the observed one. With
    more, n random swaps are drawn, and p = (b + 1) / (n + 1), where b of them reach the observed difference: Phipson
    and Smyth, "Permutation P-values Should Never Be Zero", 2010. A run against itself has p = 1.

    Args:
        confusions: Counts of each cluster in both runs, `[S, 2, seeds, C, C]`.
        score: One of the scores of `ser.evaluation.metrics`.
        permutations: Number of random swaps n.
        seed: Seed of the swaps.
    """
    number = differing_clusters(confusions)
    if number <= MOST_TO_COUNT:
        return _counted_p_value(confusions, score)
    kinds, copies = intervals.kinds_of(confusions)
    flat = kinds.reshape(len(kinds), -1)
    swapped_flat = kinds[:, ::-1].reshape(len(kinds), -1)
    observed = abs(_difference(confusions.sum(axis=0), score))
    generator, extreme = np.random.default_rng(seed), 0
    for start in range(0, permutations, 1000):
        swapped = generator.binomial(copies, 0.5, size=(min(1000, permutations - start), len(copies)))
        totals = (swapped @ swapped_flat + (copies - swapped) @ flat).reshape(-1, *confusions.shape[1:])
        extreme += int((np.abs(_difference(totals, score)) >= observed - 1e-12).sum())
    return (extreme + 1) / (permutations + 1)


def differing_clusters(confusions: np.ndarray) -> int:
    """Clusters whose counts differ between the runs, of counts `[S, 2, seeds, C, C]`: swapping others does nothing."""
    return int((confusions[:, 0] != confusions[:, 1]).any(axis=(1, 2, 3)).sum())


def smallest_p_value(confusions: np.ndarray) -> float:
    """The smallest p possible with these clusters: swapping none and swapping all both give the observed difference."""
    number = differing_clusters(confusions)
    return min(1.0, 2.0 ** (1 - number)) if number <= MOST_TO_COUNT else 1 / (PERMUTATIONS + 1)


def _counted_p_value(confusions: np.ndarray, score: Score) -> float:
    """`permutation_p_value` over all swaps; the first cluster stays, since swapping all only turns the sign."""
    total = confusions.sum(axis=0)
    differ = confusions[(confusions[:, 0] != confusions[:, 1]).any(axis=(1, 2, 3))]
    if not len(differ):
        return 1.0
    number = len(differ) - 1
    swapped = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
    change = (differ[1:, ::-1] - differ[1:]).reshape(number, total.size)
    totals = (swapped @ change).reshape(-1, *total.shape) + total
    return float((np.abs(_difference(totals, score)) >= abs(_difference(total, score)) - 1e-12).mean())


def _paired(a: pd.DataFrame, b: pd.DataFrame, seed: int) -> dict:
    """The figures of `compare`, from rows that were checked to match."""
    confusions, moments, unit = _paired_counts(a, b)
    support = confusions[:, 0, 0].sum(axis=2)
    added = least_errors.OF_DIFFERENCES
    least = dict.fromkeys(SCORES, least_errors.mean_error(moments, added))
    least["accuracy"] = least_errors.clip_error(moments, added)
    few = dict.fromkeys(SCORES, least_errors.error_of_few(moments, added)) | {"accuracy": 0.0}
    effective = intervals.effective_clusters(support)
    total, resampled = confusions.sum(axis=0), intervals.resample(confusions, seed=seed)
    figures = {}
    for name, score in SCORES.items():
        spread = intervals.spread_of(_difference(total, score), _difference(resampled, score), effective)
        spread = replace(spread, least=least[name], few=few[name])
        figures[name] = {
            "a": float(score(total[0]).mean()),
            "b": float(score(total[1]).mean()),
            "difference": spread.value,
            "interval": intervals.plain_interval(spread),
            "p_value": permutation_p_value(confusions, score, seed=seed),
        }
    return {
        **figures,
        "clips": int(support.sum()),
        "clusters": len(confusions),
        "interval_unit": unit,
        "permutations": 2**number if (number := differing_clusters(confusions)) <= MOST_TO_COUNT else PERMUTATIONS,
        "smallest_p": smallest_p_value(confusions),
    }


def _paired_counts(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, str]:
    """Counts of each cluster in both runs, `[S, 2, seeds, C, C]`, moments of the differences, and a cluster's unit.

    Seeds are repeated up to their least common multiple, which leaves the mean over them as it is.
    """
    labels = labels_of(a)
    both = pd.concat([a, b], ignore_index=True)
    both["seed"] = np.repeat([0, 1], [len(a), len(b)]) * (1 << 32) + np.concatenate(
        [np.unique(run["seed"], return_inverse=True)[1] for run in (a, b)]
    )
    table = scored(both, labels)
    confusions, num_a = table.confusions(), a["seed"].nunique()
    sides = confusions[:, :num_a], confusions[:, num_a:]
    repeats = np.lcm(*[side.shape[1] for side in sides])
    both = np.stack([np.repeat(side, repeats // side.shape[1], axis=1) for side in sides], axis=1)
    is_a = table.seed < num_a
    return both, table.moments(table.hits(is_a) - table.hits(~is_a)), table.unit


def _difference(totals: np.ndarray, score: Score) -> np.ndarray:
    """Score of the first run minus that of the second, mean over seeds, `[...]` of totals `[..., 2, seeds, C, C]`."""
    means = score(totals).mean(axis=-1)
    return means[..., 0] - means[..., 1]


def _test_rows(predictions: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of test, in which every seed has every clip once.

    Raises:
        ValueError: There is none, a clip occurs twice, a seed lacks clips, or the run is a regression.
    """
    if not labels_of(predictions):
        raise ValueError(f"run {name} holds no class probabilities; only runs of a classification can be compared")
    rows = predictions[predictions["split"] == "test"]
    if rows.empty:
        raise ValueError(f"run {name} has no prediction on test; run it with --do_predict true first")
    check_once_per_seed(rows)
    clips = rows.groupby("seed")["id"].nunique()
    if clips.nunique() > 1:
        raise ValueError(
            f"the seeds of run {name} test {clips.to_dict()} clips; expected the same clips under each: finish the run"
        )
    return rows


def _check_same(a: pd.DataFrame, b: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Raises an error that names the first difference for which the runs cannot be paired.

    Raises:
        ValueError: Classes, clips, or one of `columns` differ.
    """
    if labels_of(a) != labels_of(b):
        raise ValueError(
            f"the runs know {labels_of(a)} and {labels_of(b)}; expected the same classes: train both with one label_map"
        )
    first, second = (run.drop_duplicates("id").set_index("id") for run in (a, b))
    only_a, only_b = first.index.difference(second.index), second.index.difference(first.index)
    if len(only_a) or len(only_b):
        example = (list(only_a) + list(only_b))[0]
        raise ValueError(
            f"the runs test other clips: {len(only_a)} only in the first, {len(only_b)} only in the second, such as "
            f"{example!r}; expected the same: pool all folds (--fold all) or use one splits_file for both"
        )
    second = second.loc[first.index]
    if "duration" in first and "duration" in second:
        lengths = pd.DataFrame({"first": first["duration"], "second": second["duration"]}).dropna()
        other = lengths[(lengths["first"] - lengths["second"]).abs() > MAX_SECONDS_APART]
        if len(other):
            name, one, two = next(other.itertuples())
            raise ValueError(
                f"the runs give {len(other)} clips another length: {name!r} has {one:.3f} s in the first and "
                f"{two:.3f} s in the second; expected the clips of one corpus, not of two that share names"
            )
    for column in columns:
        left, right = (run[column].astype(object).where(run[column].notna(), None) for run in (first, second))
        differ = [name for name, x, y in zip(first.index, left, right, strict=True) if x != y]
        if differ:
            raise ValueError(
                f"the runs differ in the {column} of {len(differ)} clips: {differ[0]!r} has {left[differ[0]]!r} in the "
                f"first and {right[differ[0]]!r} in the second; expected the same labels and splits"
            )
