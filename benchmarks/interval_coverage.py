"""How often does an interval contain the true score? Simulated speakers who differ, whose true score is known.

    python benchmarks/interval_coverage.py                       # the tables of RESULTS.md, an hour on one core
    python benchmarks/interval_coverage.py --simulations 100     # a quick check, three minutes
    python benchmarks/interval_coverage.py --table thresholds    # how often a threshold has 90 % precision
    python benchmarks/interval_coverage.py --table intervals --only_ours   # without the other methods, a third of the
    time

Each simulation draws new speakers, who are harder or easier for the model as a whole and class by class (normal on the
logit scale), and their clips. The true recall of a class is the mean over all possible speakers, by Gauss-Hermite
quadrature. Clips per speaker and class are as uneven as in the corpus of the same name; the recalls are invented.

A threshold is chosen on the dev clips of simulated speakers. Its true precision is over all possible
speakers, whose clips have the same confidences.
"""

import argparse
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit, logit
from scipy.stats import DegenerateDataWarning, beta, bootstrap, norm

sys.path.insert(0, str(Path(__file__).parents[1]))
from ser.evaluation import intervals, least_errors, metrics
from ser.evaluation.abstention import PRECISION_TARGET, threshold_for_precision
from ser.evaluation.compare import permutation_p_value

DRAWS = 1000
# A class that one speaker alone has gets no interval, which is to say that anything is possible.
NO_INTERVAL = [0.0, 1.0]
SCORES = {"UAR": metrics.uar, "accuracy": metrics.accuracy, "macro-F1": metrics.macro_f1}
METHODS = ("clips, percentile", "speakers, percentile", "speakers, BCa", "this project")


@dataclass(frozen=True)
class Corpus:
    """The shape of a corpus.

    Attributes:
        speakers: Number of speakers S.
        clips: Clips of each class on average, `[C]`.
        owners: Share of the speakers who have the class, `[C]`.
        size_power: 1 where talkative speakers have more clips of the class, 0 where everyone has about as many, `[C]`.
        evenness: Shape of the gamma weights of speakers within a class, `[C]`; greater is more even.
        size_spread: Deviation of the log of a speaker's number of clips.
        recall: Recall of each class for the speaker in the middle, `[C]`.
    """

    speakers: int
    clips: tuple[int, ...]
    owners: tuple[float, ...]
    size_power: tuple[int, ...]
    evenness: tuple[float, ...]
    size_spread: float
    recall: tuple[float, ...]


# The counts are the corpora's own. The rest was set so that the effective number of speakers of all clips (ShEMO 40,
# EMO-DB 9), of UAR (37, 9) and of each class (19 to 30, 6 to 10) come out about right.
CORPORA = {
    "ShEMO-like": Corpus(
        87,
        (1059, 1028, 449, 225, 201, 38),
        (0.83, 0.97, 0.67, 0.64, 0.54, 0.28),
        (1, 1, 1, 1, 1, 0),
        (2, 3, 2, 2.5, 2.5, 8),
        0.9,
        (0.85, 0.80, 0.60, 0.55, 0.45, 0.25),
    ),
    "EMO-DB-like": Corpus(
        10,
        (127, 81, 79, 71, 69, 62, 46),
        (1, 1, 1, 1, 1, 1, 0.9),
        (1, 1, 1, 1, 1, 1, 1),
        (8, 5, 8, 6, 4, 6, 2),
        0.25,
        (0.90, 0.60, 0.60, 0.50, 0.60, 0.90, 0.60),
    ),
}
CORPORA["3 speakers"] = replace(CORPORA["EMO-DB-like"], speakers=3, clips=(38, 24, 24, 21, 21, 19, 14))
# Where a bootstrap over speakers alone fails: a class that few have, hardly an error, hardly a clip.
HARD = {
    f"{name}, a class of {number}": replace(corpus, owners=(*corpus.owners[:-1], number / corpus.speakers))
    for name, corpus in list(CORPORA.items())[:2]
    for number in (1, 2, 3)
}
HARD["EMO-DB-like, good model"] = replace(CORPORA["EMO-DB-like"], recall=(0.97, 0.95, 0.95, 0.90, 0.95, 0.99, 0.95))
HARD["24 clips of 4 speakers"] = Corpus(
    4, (6, 6, 6, 6), (1, 1, 1, 1), (0, 0, 0, 0), (8, 8, 8, 8), 0.1, (0.95, 0.90, 0.30, 0.95)
)


@dataclass(frozen=True)
class Answers:
    """How a model's confidence and correctness are related; P(right) = expit(ease + slope logit(confidence)).

    Attributes:
        shape: Of the Beta distribution of confidences.
        ease: For the speaker in the middle.
        slope: 1 with ease 0 is a calibrated model.
    """

    shape: tuple[float, float]
    ease: float
    slope: float


ANSWERS = {
    "calibrated, 67 % right": Answers((4, 2), 0.0, 1.0),
    "too sure": Answers((4, 2), -0.7, 0.8),
    "never above 89 %": Answers((4, 2), 1.5, 0.2),
    "82 % right": Answers((6, 2), 0.5, 1.0),
    "92 % right": Answers((6, 1.5), 1.2, 1.0),
}
DEV = ((1, 50), (3, 60), (10, 50), (20, 35), (60, 35))


def draw_counts(corpus: Corpus, generator: np.random.Generator) -> np.ndarray:
    """Clips of each speaker and class, int `[S, C]`."""
    ranks = (np.arange(corpus.speakers) + 0.5) / corpus.speakers
    sizes = generator.permutation(np.exp(corpus.size_spread * norm.ppf(ranks)))
    counts = np.zeros((corpus.speakers, len(corpus.clips)), dtype=np.int64)
    for c, clips in enumerate(corpus.clips):
        owners = generator.permutation(corpus.speakers)[: round(corpus.owners[c] * corpus.speakers)]
        expected = sizes ** corpus.size_power[c]
        evenness = corpus.evenness[c]
        share = expected[owners] / expected.mean() / len(owners)
        counts[owners, c] = generator.poisson(clips * share * generator.gamma(evenness, 1 / evenness, len(owners)))
    return counts


def draw_confusions(corpus: Corpus, spreads: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Confusions of two equally good models on the same clips, `[S, 2, 1, C, C]`.

    They share how hard a speaker is, and half the variance of how hard a speaker's class is.
    """
    of_speaker, of_class = spreads
    counts = draw_counts(corpus, generator)
    shape = counts.shape
    shared = generator.normal(0, of_speaker, (shape[0], 1)) + generator.normal(0, of_class / 2**0.5, shape)
    confusions = np.zeros((shape[0], 2, 1, shape[1], shape[1]), dtype=np.int64)
    for model in range(2):
        own = generator.normal(0, of_class / 2**0.5, shape)
        hits = generator.binomial(counts, expit(logit(corpus.recall) + shared + own))
        for c, prior in enumerate(error_shares(corpus)):
            confusions[:, model, 0, c] = generator.multinomial(counts[:, c] - hits[:, c], prior)
            confusions[:, model, 0, c, c] = hits[:, c]
    return confusions


def error_shares(corpus: Corpus) -> np.ndarray:
    """Which class a wrong clip goes to, `[C, C]`: the others, as often as they occur."""
    shares = np.tile(np.array(corpus.clips, dtype=float), (len(corpus.clips), 1))
    np.fill_diagonal(shares, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def true_scores(corpus: Corpus, spreads: tuple[float, float]) -> dict[str, float]:
    """The scores over all possible speakers."""
    nodes, weights = hermegauss(80)
    recall = (expit(logit(corpus.recall)[:, None] + np.hypot(*spreads) * nodes) * weights).sum(1) / weights.sum()
    clips = np.array(corpus.clips)
    confusion = np.diag(clips * recall) + (clips * (1 - recall))[:, None] * error_shares(corpus)
    rarest = f"recall, {clips.min()} clips"
    return {name: float(score(confusion)) for name, score in SCORES.items()} | {rarest: recall[clips.argmin()]}


def usual_intervals(confusions: np.ndarray, score, generator: np.random.Generator) -> dict[str, list[float]]:
    """The usual intervals, which ignore that speakers are few and uneven.

    Args:
        confusions: Counts of each speaker, `[S, 1, C, C]`.
        score: Of a total `[..., 1, C, C]`.
        generator: Of the draws.
    """
    total, flat = confusions.sum(axis=0), confusions.reshape(len(confusions), -1).astype(float)
    of_clips = generator.multinomial(total.sum(), total.ravel() / total.sum(), size=DRAWS).reshape(-1, *total.shape)

    def of_speakers(chosen: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.moveaxis(chosen, axis, -1).astype(np.int64).reshape(-1, chosen.shape[axis])
        counts = intervals.cluster_sums(np.arange(len(drawn)).repeat(drawn.shape[1]), drawn.ravel(), len(flat))
        return score((counts @ flat).reshape(-1, *total.shape)).squeeze()

    speakers, arguments = (np.arange(len(flat)),), {"vectorized": True, "axis": -1, "rng": generator}
    percentile = bootstrap(speakers, of_speakers, n_resamples=DRAWS, method="percentile", **arguments)
    bca = bootstrap(speakers, of_speakers, n_resamples=0, bootstrap_result=percentile, method="BCa", **arguments)
    return {
        METHODS[0]: np.nanquantile(score(of_clips), [0.025, 0.975]),
        METHODS[1]: percentile.confidence_interval,
        METHODS[2]: bca.confidence_interval,
    }


def one_simulation(
    corpus: Corpus, spreads: tuple[float, float], seed: int, usual: bool
) -> dict[tuple[str, str], list[float]]:
    """Intervals by score and method; of the difference of the two models, and the p-value of its test.

    Args:
        usual: Whether to make the intervals of other methods too.
    """
    generator = np.random.default_rng(seed)
    both = draw_confusions(corpus, spreads, generator)
    confusions, labels = both[:, 0], [str(c) for c in range(len(corpus.clips))]
    rarest = int(np.argmin(corpus.clips))
    scores = {name: lambda total, score=score: score(total)[..., 0] for name, score in SCORES.items()}
    scores[f"recall, {min(corpus.clips)} clips"] = lambda total: metrics.recalls(total)[..., 0, rarest]
    ours = intervals.score_intervals(confusions, labels, DRAWS, seed)
    mine = [ours["uar"], ours["accuracy"], ours["macro_f1"], ours["recall"][str(rarest)]]
    found = {}
    for (name, score), interval in zip(scores.items(), mine, strict=True):
        others = usual_intervals(confusions, score, generator) if usual else {}
        found |= {(name, method): bounds for method, bounds in (others | {METHODS[3]: interval or NO_INTERVAL}).items()}
    found["UAR, A - B", METHODS[3]] = intervals.plain_interval(difference(both, seed)) or [-1.0, 1.0]
    found["p", ""] = [permutation_p_value(both, metrics.uar, 999, seed)]
    return found


def difference(both: np.ndarray, seed: int) -> intervals.Spread:
    """The spread of the UAR of the first model minus that of the second, as `ser compare` computes it.

    Args:
        both: Counts `[S, 2, 1, C, C]`. Which clips both have right is not in them: as many as can be.
        seed: Seed of the draws.
    """
    values = metrics.uar(intervals.resample(both, DRAWS, seed))[..., 0]
    effective = intervals.effective_clusters(both[:, 0].sum(axis=(1, 3)))
    gap = intervals.spread_of(np.subtract(*metrics.uar(both.sum(axis=0))[:, 0]), values[:, 0] - values[:, 1], effective)
    hits = np.diagonal(both[:, :, 0], axis1=2, axis2=3)
    gains = (hits[:, 0] - hits[:, 1]).astype(float)
    moments = np.stack([both[:, 0, 0].sum(axis=2), gains, np.abs(gains)], axis=2)
    added = least_errors.OF_DIFFERENCES
    return replace(gap, least=least_errors.mean_error(moments, added), few=least_errors.error_of_few(moments, added))


def table_rows(name: str, spreads: tuple[float, float], simulations: int, usual: bool) -> list[str]:
    """Rows of the table for one corpus and one strength of the speakers' differences; `usual` as above."""
    corpus = (CORPORA | HARD)[name]
    truth = true_scores(corpus, spreads) | {"UAR, A - B": 0.0}
    inside, widths, alarms = defaultdict(list), defaultdict(list), 0
    for seed in range(simulations):
        found = one_simulation(corpus, spreads, seed, usual)
        alarms += found.pop(("p", ""))[0] <= 0.05
        for (score, method), (low, high) in found.items():
            inside[score, method].append(low <= truth[score] <= high)
            widths[score, method].append(high - low)
    rows = []
    for score in truth:
        cells = [
            f"{100 * np.mean(inside[score, method]):.1f} ({np.nanmean(widths[score, method]):.3f})"
            if (score, method) in inside
            else ""
            for method in METHODS
        ]
        rows.append(f"| {name} | {spreads[0]}, {spreads[1]} | {score} | " + " | ".join(cells) + " |")
    return rows + [
        f"| {name} | {spreads[0]}, {spreads[1]} | false alarms, % | | | | {100 * alarms / simulations:.1f} |"
    ]


def draw_answers(answers: Answers, speakers: int, clips: int, deviation: float, seed: int) -> tuple[np.ndarray, ...]:
    """Confidences, whether each is right, and the speaker, of some clips; confidences are 0.5 or more."""
    generator = np.random.default_rng(seed)
    sizes = np.maximum(generator.poisson(clips * np.exp(generator.normal(0, 0.4, speakers))), 1)
    speaker = np.repeat(np.arange(speakers), sizes)
    confidence = np.maximum(generator.beta(*answers.shape, len(speaker)), 0.501)
    ease = answers.ease + generator.normal(0, deviation, speakers)[speaker]
    right = generator.random(len(speaker)) < expit(ease + answers.slope * logit(confidence))
    return confidence, right, speaker


def true_precision(answers: Answers, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences from low to high, and the precision of all answers at each or above, over all speakers."""
    confidence = np.maximum(beta(*answers.shape).ppf((np.arange(4000) + 0.5) / 4000), 0.501)
    nodes, weights = hermegauss(40)
    ease = answers.ease + answers.slope * logit(confidence)[:, None] + deviation * nodes
    right = (expit(ease) * weights).sum(axis=1) / weights.sum()
    return confidence, np.cumsum(right[::-1])[::-1] / np.arange(4000, 0, -1)


def threshold_rows(name: str, simulations: int) -> list[str]:
    """Rows of the table of thresholds for one kind of model."""
    rows, answers = [], ANSWERS[name]
    for speakers, clips in DEV:
        for deviation in (0.0, 0.5, 1.0):
            grid, precision = true_precision(answers, deviation)
            kept = []
            for seed in range(simulations):
                confidence, right, speaker = draw_answers(answers, speakers, clips, deviation, seed)
                both = np.stack([confidence, 1 - confidence], axis=1)
                found = threshold_for_precision(both, (~right).astype(int), speaker)
                if found is not None:
                    kept.append(precision[min(np.searchsorted(grid, found), 3999)] >= PRECISION_TARGET)
            of_chosen = f"{100 * np.mean(kept):.1f}" if kept else ""
            broken = 100 * (len(kept) - sum(kept)) / simulations
            cells = (f"{100 * len(kept) / simulations:.1f}", f"{broken:.1f}", of_chosen)
            rows.append(f"| {name} | {speakers} x {clips} | {deviation} | " + " | ".join(cells) + " |")
    return rows


def print_intervals(simulations: int, usual: bool) -> None:
    """The table of intervals; the other methods are left out where they are known to fail."""
    print("| corpus | sd of speaker, of class | score | " + " | ".join(METHODS) + " |")
    print("|---|---|---|" + "---|" * len(METHODS))
    for name in CORPORA | HARD:
        for spreads in ((0.0, 0.0), (0.5, 0.5), (1.0, 0.5)):
            print("\n".join(table_rows(name, spreads, simulations, usual and name in CORPORA)), flush=True)


def print_thresholds(simulations: int) -> None:
    """The table of thresholds."""
    print("| model | dev: speakers x clips | sd of speaker | chosen, % | chosen and below 90 %, % | of these kept, % |")
    print("|---|---|---|---|---|---|")
    for name in ANSWERS:
        print("\n".join(threshold_rows(name, simulations)), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals on simulated speakers")
    parser.add_argument("--simulations", type=int, default=2000, help="simulations a row (2000: +-1 % at 95 %)")
    parser.add_argument("--table", choices=("intervals", "thresholds", "both"), default="both")
    parser.add_argument("--only_ours", action="store_true", help="leave the intervals of other methods out")
    arguments = parser.parse_args()
    # BCa says so each time that its draws are all alike; the table counts that as a miss.
    warnings.simplefilter("ignore", DegenerateDataWarning)
    np.seterr(invalid="ignore")
    start = time.time()
    if arguments.table != "thresholds":
        print_intervals(arguments.simulations, not arguments.only_ours)
    if arguments.table != "intervals":
        print_thresholds(arguments.simulations)
    print(f"\n{arguments.simulations} simulations a row, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
