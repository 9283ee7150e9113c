"""Augmentation by audiomentations, with one seed for each clip and epoch."""

import hashlib
import inspect
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from ser.data.audio import MIN_SAMPLES, SAMPLING_RATE_HZ
from ser.data.clips import closest
from ser.files import parse_json

# The generators are those of the process: one thread at a time may seed them and draw.
_GENERATORS = threading.Lock()


class Augment(Protocol):
    """A function of a wave `[T]` and a key (any tuple) to a wave `[T]`.

    Attributes:
        specification: The JSON list it was built from.
    """

    specification: str | None

    def __call__(self, wave: np.ndarray, key: tuple) -> np.ndarray: ...


def hash_of(key: tuple) -> int:
    """A number of 63 bits that depends on nothing but `key`: Python's own `hash` differs from process to process."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def build_augmentation(specification: str | None) -> Augment | None:
    """Builds the function that augments a training clip.

    audiomentations draws from Python's and NumPy's global generators. They are seeded before every clip with a number
    made from the clip's key, and restored after it: the same clip in the same epoch gives the same audio in any worker,
    process, thread and order, and other code that draws from these generators is not disturbed.

    Args:
        specification: JSON list of transforms in audiomentations' own names,
            `[{"name": "AddGaussianSNR", "min_snr_db": 5, "max_snr_db": 40, "p": 0.5}]`; None or an empty list: none.

    Returns:
        A function of a wave `[T]` and a key (any tuple) to a wave `[T]`, with `specification` as attribute; or None.

    Raises:
        ValueError: A transform or one of its parameters is unknown, or a transform fails on one second of noise.
    """
    augmentation = _Augmentation(specification)
    return augmentation if augmentation.transforms else None


class _Augmentation:
    """A chain of transforms. Pickled as its specification: workers of a DataLoader are not always forked."""

    def __init__(self, specification: str | None):
        self.specification, self.transforms = specification, _transforms(specification)

    def __call__(self, wave: np.ndarray, key: tuple) -> np.ndarray:
        with _seeded(hash_of(key) % 2**32):
            for transform in self.transforms:
                wave = _applied(transform, wave)
        return np.ascontiguousarray(wave, dtype=np.float32)

    def __reduce__(self) -> tuple:
        return type(self), (self.specification,)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's and NumPy's global generators, and restores them at the end. Other threads wait meanwhile."""
    with _GENERATORS:
        python_state, numpy_state = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _applied(transform: Any, wave: np.ndarray) -> np.ndarray:
    """Applies a transform; a longer result is cut to the clip's length, for which its batch was planned.

    Raises:
        ValueError: Less than a frame is left of the clip.
    """
    result = transform(samples=wave, sample_rate=SAMPLING_RATE_HZ)[: len(wave)]
    if len(result) < MIN_SAMPLES:
        raise ValueError(
            f"--augmentations: {type(transform).__name__} left {len(result)} of {len(wave)} samples of a clip; a model "
            f"needs {MIN_SAMPLES}. Change its parameters."
        )
    return result


def _transforms(specification: str | None) -> list[Any]:
    if not specification:
        return []
    entries = parse_json(specification, "--augmentations")
    if not isinstance(entries, list):
        raise ValueError(f"--augmentations: {entries!r} is not a list of transforms with a name each.")
    return [_transform(entry) for entry in entries]


def _transform(entry: Any) -> Any:
    import audiomentations
    from audiomentations.core.transforms_interface import BaseWaveformTransform

    if not isinstance(entry, dict) or "name" not in entry:
        raise ValueError(f'--augmentations: {entry!r} is not of the form {{"name": "Gain", "p": 0.5}}.')
    parameters = {key: value for key, value in entry.items() if key != "name"}
    kind = getattr(audiomentations, str(entry["name"]), None)
    if not (isinstance(kind, type) and issubclass(kind, BaseWaveformTransform)):
        if kind in (audiomentations.OneOf, audiomentations.SomeOf, audiomentations.Compose):
            raise ValueError(
                f"--augmentations: {entry['name']} holds other transforms, which is not supported; list them "
                "one by one, each with its own p."
            )
        known = [name for name in dir(audiomentations) if name[0].isupper()]
        raise ValueError(
            f"--augmentations: audiomentations has no transform {entry['name']!r}.{closest(str(entry['name']), known)}"
        )
    try:
        transform = kind(**parameters)
        # Tried once, so that a missing extra or a wrong parameter shows now and not at the first clip that draws it.
        noise = np.random.default_rng(0).normal(0, 0.1, SAMPLING_RATE_HZ).astype(np.float32)
        with _seeded(0):
            _applied(kind(**{**parameters, "p": 1.0}), noise)
    except ImportError as error:
        raise ValueError(
            f"--augmentations: {entry['name']} needs a package that is missing ({error}): pip install "
            "'audiomentations[extras]'."
        ) from None
    except Exception as error:  # each transform checks its parameters in its own way
        taken = ", ".join(name for name in inspect.signature(kind).parameters if name != "p")
        why = f"{error}; " if str(error) else ""
        raise ValueError(
            f"--augmentations: {entry['name']} does not take {parameters} ({why}its parameters are {taken})."
        ) from None
    return transform
