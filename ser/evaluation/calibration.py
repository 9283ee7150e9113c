"""Calibration of probabilities: temperature, class prior, calibration error and reliability diagram.

"Confidence" is the largest probability of a clip; a clip is "right" when that class is the true one. Probabilities
are `[N, C]`, rows summing to 1; truth is the index of the true class, `[N]`.
"""

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

MAX_BINS = 15
MIN_CLIPS_PER_BIN = 20
TEMPERATURE_RANGE = (0.05, 20.0)
SMALLEST_PROBABILITY = 1e-15


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The T for which softmax(logits / T) makes dev most likely: Guo et al., "On Calibration", ICML 2017, eq. 9.

    One T for all classes does not change the argmax. Where every dev clip is right, the likelihood grows without
    bound as T falls. log T therefore has a standard normal prior, which weighs about as much as one clip: a few clips
    move T little, and hundreds outweigh the prior. The prior is greatest at T = 1, so that the fitted T never raises
    the NLL on these clips.

    Args:
        logits: Logits or log-probabilities, `[N, C]`; softmax gives the same for both.
        truth: Index of the true class of each clip, `[N]`.

    Returns:
        T within [0.05, 20]; above 1 the model was too confident. 1 where there is no dev clip.

    Raises:
        ValueError: Shapes that disagree, or logits that are not finite.
    """
    logits, truth = _checked(logits, truth)
    if len(truth) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        nll = logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]
        return float(nll.sum() + log_temperature**2 / 2)

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def fit_prior(logits: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """The T and the biases b, one for each class, for which softmax(logits / T + b) makes dev most likely.

    Training that gives all classes equal weight, by loss weights, logit adjustment or a balanced sampler, gives scores
    for equally frequent classes. b turns them into scores for the class frequencies of dev: Saerens, Latinne and
    Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 14, 2002,
    eq. 2.4, whose log ratio of priors is fitted here. log T and every b have standard normal priors, as in
    `fit_temperature`, and the NLL on these clips never rises.

    Args:
        logits: Logits or log-probabilities, `[N, C]`.
        truth: Index of the true class of each clip, `[N]`.

    Returns:
        T within [0.05, 20], and b, `[C]`, with mean 0; 1 and zeros when there is no dev clip.

    Raises:
        ValueError: As `fit_temperature`.
    """
    logits, truth = _checked(logits, truth)
    num_classes = logits.shape[1]
    if len(truth) == 0:
        return 1.0, np.zeros(num_classes)
    one_hot = np.eye(num_classes)[truth]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits / np.exp(parameters[0])
        logs = log_softmax(scaled + parameters[1:], axis=1)
        residual = np.exp(logs) - one_hot
        slope = np.append(-(residual * scaled).sum(), residual.sum(axis=0))
        return float(-logs[one_hot > 0].sum() + (parameters**2).sum() / 2), slope + parameters

    start = np.zeros(1 + num_classes)
    bounds = [tuple(np.log(TEMPERATURE_RANGE)), *[(None, None)] * num_classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    best = found.x if found.fun < loss(start)[0] else start
    return float(np.exp(best[0])), best[1:] - best[1:].mean()


def shift(probabilities: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """softmax(log p + bias): the probabilities under other class frequencies.

    Args:
        probabilities: `[N, C]`.
        bias: `[C]`, or one row for each clip, `[N, C]`.
    """
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return np.exp(log_softmax(logs + bias, axis=1))


def rescale(probabilities: np.ndarray, power: float | np.ndarray) -> np.ndarray:
    """softmax(power * log p): power = 1/T calibrates, power = T undoes that.

    Args:
        probabilities: `[N, C]`.
        power: One number, or one for each clip, `[N]`.
    """
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return np.exp(log_softmax(np.reshape(power, (-1, 1)) * logs, axis=1))


def negative_log_likelihood(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -ln p(true class), in nats, 0 at best; log C for uniform probabilities. p is taken as at least 1e-15."""
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chosen, SMALLEST_PROBABILITY)).mean())


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over clips of sum_c (p_c - [c is true])^2, in [0, 2], 0 at best; 1 - 1/C for uniform
    probabilities.

    The form for several classes of Brier, "Verification of Forecasts", Monthly Weather Review 78, 1950; with two
    classes it is twice the binary one of scikit-learn.
    """
    one_hot = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - one_hot) ** 2).sum(axis=1).mean())


def confidence_of(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability of each clip, float `[N]`, and whether its class is the true one, bool `[N]`."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def bin_of(confidence: np.ndarray, num_seeds: int = 1) -> np.ndarray:
    """The bin of each clip, int `[N]` from 0: equal mass, at most 15 bins, of 20 clips or more each.

    Edges are quantiles, so that equal confidences share a bin in any order.

    Args:
        confidence: `[N]`.
        num_seeds: Number of rows of each clip.
    """
    num_bins = int(np.clip(len(confidence) // (MIN_CLIPS_PER_BIN * num_seeds), 1, MAX_BINS))
    edges = np.quantile(confidence, np.arange(1, num_bins) / num_bins)
    return np.unique(np.searchsorted(edges, confidence, side="right"), return_inverse=True)[1]


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Debiased ECE in [0, 1] of the confidence, 0 at best, over the equal-mass bins of `bin_of`.

    The plain ECE, sum_b n_b / N |acc_b - conf_b|, is above 0 even for a perfect model, since acc_b is estimated from
    few clips. Its bias is computed as if acc_b ~ Normal(acc_b, acc_b (1 - acc_b) / (n_b - 1)) and subtracted: Kumar,
    Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019. The sum is taken as 0 where it is below. For a
    perfectly calibrated model about half of the bias stays: 0.04 on 400 clips, 0.01 on 3000.

    Args:
        probabilities: `[N, C]`.
        truth: `[N]`.
    """
    return _error_of(*confidence_of(probabilities, truth))


def class_calibration_errors(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Debiased calibration error of each class's own probability against how often it is the true one, `[C]`.

    A model may have a good ECE and still predict a rare class ten times too often; this error shows it. The mean
    over classes is the class-wise ECE of Kull et al., "Beyond temperature scaling", NeurIPS 2019, eq. 3.

    Args:
        probabilities: `[N, C]`.
        truth: `[N]`.
    """
    return np.array([_error_of(probabilities[:, c], truth == c) for c in range(probabilities.shape[1])])


def calibration_error_of_bins(clips: np.ndarray, hits: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """`expected_calibration_error` from sums over each bin, for any number of resamples at once.

    Args:
        clips: Clips in each bin, `[..., bins]`; bins may be empty.
        hits: Right clips in each bin, `[..., bins]`.
        sure: Sum of the confidences in each bin, `[..., bins]`.
    """
    filled = np.maximum(clips, 1)
    right, gap = hits / filled, np.abs(sure - hits) / filled
    deviation = np.sqrt(right * (1 - right) / np.maximum(clips - 1, 1))
    error = (clips * (2 * gap - _mean_of_folded_normal(gap, deviation))).sum(axis=-1) / clips.sum(axis=-1)
    return np.maximum(error, 0)


def least_error_of_bins(clips: np.ndarray, hits: np.ndarray) -> float:
    """Standard error of the calibration error for independent clips, mean over seeds.

    A sum over bins of (share of the clips) times (share that is right) is a linear function of shares. The clips added
    to each share are those of `ser.evaluation.least_errors`.

    Args:
        clips: Clips in each bin under each seed, `[seeds, bins]`; bins may be empty.
        hits: Right clips in each bin, `[seeds, bins]`.
    """
    added = 4 / (clips > 0).sum(axis=1, keepdims=True)
    right = (hits + added / 2) / (clips + added)
    weight = clips / clips.sum(axis=1, keepdims=True)
    return float(np.sqrt((weight**2 * right * (1 - right) / (clips + added)).sum(axis=1)).mean())


def reliability(probabilities: np.ndarray, truth: np.ndarray, clip: np.ndarray | None = None) -> list[dict]:
    """The reliability diagram: one dict for each bin of `bin_of`, from the least to the most confident.

    Args:
        probabilities: `[N, C]`.
        truth: `[N]`.
        clip: Number of each row's clip, `[N]`, where clips have a row for each seed.

    Returns:
        `confidence` (mean), `accuracy`, `accuracy_interval` (95 %, Wilson, for independent clips), `n` (clips, mean
        over seeds), `lowest` and `highest` confidence.
    """
    confidence, right = confidence_of(probabilities, truth)
    clip = np.arange(len(right)) if clip is None else clip
    num_seeds = len(clip) // len(np.unique(clip))
    bins = bin_of(confidence, num_seeds)
    return [_one_bin(confidence[own], right[own], clip[own], num_seeds) for own in (bins == b for b in np.unique(bins))]


def wilson_interval(hits: float, clips: float, level: float = 0.95) -> list[float]:
    """Interval of a share, [low, high] in [0, 1]: Wilson, JASA 22, 1927. It holds for independent clips only."""
    z = norm.ppf((1 + level) / 2)
    share, shrink = hits / clips, 1 + z**2 / clips
    middle = (share + z**2 / (2 * clips)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2))
    return [max(0.0, float(middle - half)), min(1.0, float(middle + half))]


def per_seed(rows: np.ndarray | int, num_seeds: int) -> np.ndarray:
    """Turns numbers of rows, one for each clip and seed, into numbers of clips; these are integers for one seed."""
    return np.asarray(rows) if num_seeds == 1 else np.asarray(rows) / num_seeds


def _checked(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, truth = np.asarray(logits, np.float64), np.asarray(truth)
    if logits.ndim != 2 or truth.shape != logits.shape[:1]:
        raise ValueError(f"logits have shape {logits.shape} and truth {truth.shape}; expected [N, C] and [N]")
    if not np.isfinite(logits).all():
        raise ValueError(
            f"{int((~np.isfinite(logits)).sum())} logits are not finite; expected finite ones: the "
            "model is broken, train it again"
        )
    return logits, truth


def _error_of(said: np.ndarray, happened: np.ndarray) -> float:
    """Debiased calibration error of the probabilities `[N]` of an event that happened or not, bool `[N]`."""
    bins = bin_of(said)
    clips, hits, sure = (np.bincount(bins, weights) for weights in (None, happened.astype(float), said))
    return float(calibration_error_of_bins(clips, hits, sure))


def _one_bin(confidence: np.ndarray, right: np.ndarray, clip: np.ndarray, num_seeds: int) -> dict:
    """A bar of the reliability diagram, from the rows in it.

    The rows of one clip are taken as fully dependent: the share rests on (sum_i k_i)^2 / sum_i k_i^2 clips, where clip
    i has k_i rows (Kish, "Survey Sampling", 1965).
    """
    rows = np.unique(clip, return_counts=True)[1]
    clips = rows.sum() ** 2 / (rows**2).sum()
    return {
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "accuracy_interval": wilson_interval(right.mean() * clips, clips),
        "n": per_seed(len(right), num_seeds).item(),
        "lowest": float(confidence.min()),
        "highest": float(confidence.max()),
    }


def _mean_of_folded_normal(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """E|X| of X ~ Normal(mean, deviation): s sqrt(2/pi) exp(-m^2 / 2 s^2) + m (1 - 2 Phi(-m / s))."""
    spread = np.maximum(deviation, np.finfo(np.float64).tiny)
    ratio = np.minimum(mean / spread, 1e3)
    return spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * norm.cdf(-ratio))
