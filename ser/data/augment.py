"""Augmentation by audiomentations, with one seed for each clip and epoch."""

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ
from ser.data.data_arguments import closest

Augment = Callable[[np.ndarray, tuple], np.ndarray]


def hash_of(key: tuple) -> int:
    """A number of 63 bits that depends on nothing but `key`: Python's own `hash` differs from process to process."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def build_augmentation(specification: str | None) -> Augment | None:
    """Builds the function that augments a training clip.

    audiomentations draws from Python's and NumPy's global generators. They are seeded before every clip with a number
    made from the clip's key, and restored after it: the same clip in the same epoch gives the same audio in any worker,
    process and order, and other code that draws from these generators is not disturbed.

    Args:
        specification: JSON list of transforms in audiomentations' own names,
            `[{"name": "AddGaussianSNR", "min_snr_db": 5, "max_snr_db": 40, "p": 0.5}]`; None or an empty list: none.

    Returns:
        A function of a wave `[T]` and a key (any tuple) to a wave `[T]`, with `specification` as attribute; or None.

    Raises:
        ValueError: A transform or one of its parameters is unknown.
    """
    transforms = _transforms(specification)
    if not transforms:
        return None

    def augment(wave: np.ndarray, key: tuple) -> np.ndarray:
        seed = hash_of(key) % 2**32
        python_state, numpy_state = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        try:
            for transform in transforms:
                wave = transform(samples=wave, sample_rate=SAMPLING_RATE_HZ)
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
        return np.ascontiguousarray(wave, dtype=np.float32)

    augment.specification = specification
    return augment


def _transforms(specification: str | None) -> list[Any]:
    if not specification:
        return []
    try:
        entries = json.loads(specification)
    except json.JSONDecodeError as error:
        raise ValueError(f"--augmentations: {specification!r} is not JSON ({error}).") from None
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
        known = [name for name in dir(audiomentations) if name[0].isupper()]
        raise ValueError(
            f"--augmentations: audiomentations has no transform {entry['name']!r}.{closest(str(entry['name']), known)}"
        )
    try:
        return kind(**parameters)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"--augmentations: {entry['name']} does not take {parameters} ({error}).") from None
