"""The clips of a corpus as points of a plane, from features of a frozen encoder, or from acoustic functionals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ser.data.statistics_cache import find_statistics
from ser.experiments.functionals import corpus_functionals
from ser.exploration.speaker_tests import variance_share

# UMAP's own defaults, and a seed.
_NEIGHBOURS, _MIN_DISTANCE, _SEED = 15, 0.1, 0


class Features(NamedTuple):
    """Features of clips.

    Attributes:
        values: `(N, D)`, each column with mean 0 and deviation 1.
        source: What they are, in words.
        is_frozen: Whether they are of an encoder.
    """

    values: np.ndarray
    source: str
    is_frozen: bool


class Plane(NamedTuple):
    """The clips as points.

    Attributes:
        points: `(N, 2)`.
        method: "PCA" or "UMAP".
        shares: Share of the variance on each of the two axes; None for UMAP, whose axes have no meaning.
    """

    points: np.ndarray
    method: str
    shares: tuple[float, float] | None


def corpus_features(
    dataset: Any, cache: Path, rows: Sequence[int] | np.ndarray, encoder: str | None = None, num_proc: int = 1
) -> Features:
    """Features of some clips: what a run left in the cache of frozen features, otherwise functionals.

    Of an encoder, the layer in the middle is taken, averaged over the clip. It is where voices and emotions are told
    apart best in most encoders (Pepino et al., Interspeech 2021, figure 2).

    Args:
        dataset: Prepared corpus.
        cache: Folder of the cache.
        rows: Rows of the corpus.
        encoder: The encoder that is preferred, if several were run.
        num_proc: Processes, for functionals.
    """
    found = find_statistics(dataset, cache, encoder)
    if found is None:
        values = corpus_functionals(dataset.select(rows), "plain", str(cache), num_proc)
        return Features(zero_mean_and_unit_variance(values), f"{values.shape[1]} acoustic functionals", False)
    name, table = found
    layer = table.shape[1] // 2
    values = np.asarray(table[rows, layer, : table.shape[2] // 2], np.float64)
    return Features(
        zero_mean_and_unit_variance(values), f"layer {layer} of {table.shape[1] - 1} of the frozen {name}", True
    )


def zero_mean_and_unit_variance(values: np.ndarray) -> np.ndarray:
    """Columns `(N, D)` with mean 0 and deviation 1; columns without variance are left out."""
    deviation = values.std(axis=0)
    kept = deviation > 1e-9 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0))
    return (values[:, kept] - values[:, kept].mean(axis=0)) / deviation[kept]


def plane_of(values: np.ndarray) -> Plane | None:
    """UMAP where the extra `umap` is installed, otherwise the first two principal components.

    Args:
        values: `(N, D)`, standardised.

    Returns:
        None where there are fewer than three clips or two columns.
    """
    if len(values) < 3 or values.shape[1] < 2:
        return None
    try:
        import umap
    except ImportError:
        return _principal(values)
    if len(values) <= _NEIGHBOURS:
        return _principal(values)
    model = umap.UMAP(n_neighbors=_NEIGHBOURS, min_dist=_MIN_DISTANCE, random_state=_SEED, n_jobs=1)
    return Plane(np.asarray(model.fit_transform(values), np.float64), "UMAP", None)


def shares_of(values: np.ndarray, groups: Mapping[str, Sequence[str | None]]) -> dict[str, float]:
    """How much of the variance of features lies between the groups of each kind (emotion, speaker, ...).

    Args:
        values: `(N, D)`, standardised.
        groups: Group of each clip, by kind.

    Returns:
        By kind, `variance_share`; kinds without two groups are left out.
    """
    found = {kind: variance_share(values, own) for kind, own in groups.items()}
    return {kind: share for kind, share in found.items() if np.isfinite(share)}


def _principal(values: np.ndarray) -> Plane:
    from sklearn.decomposition import PCA

    model = PCA(2, random_state=_SEED)
    points = model.fit_transform(values)
    first, second = model.explained_variance_ratio_.tolist()
    return Plane(points, "PCA", (first, second))
