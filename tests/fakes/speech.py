"""Sound with the nature of speech: wandering pitch, wandering resonances, pauses."""

import numpy as np

RATE_HZ = 16_000


def speech_like(seed: int, seconds: float = 3.0) -> np.ndarray:
    """A buzz of wandering pitch through wandering resonances, with pauses."""
    random, total = np.random.default_rng(seed), int(seconds * RATE_HZ)

    def wander(low: float, high: float) -> np.ndarray:
        points = random.uniform(low, high, int(seconds * 6) + 2)
        return np.interp(np.linspace(0, len(points) - 1, total), np.arange(len(points)), points)

    phase = 2 * np.pi * np.cumsum(wander(90, 250)) / RATE_HZ
    centres = [wander(300, 900), wander(900, 2200), wander(2200, 3000)]
    pitch = np.gradient(phase) * RATE_HZ / (2 * np.pi)
    wave = sum(
        np.sin(number * phase) * sum(np.exp(-(((number * pitch - centre) / 150) ** 2)) for centre in centres)
        for number in range(1, 20)
    )
    wave = wave * np.clip(wander(-0.3, 1), 0, 1)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)
