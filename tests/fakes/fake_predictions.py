"""A table of predictions as a run writes it, made up: speakers who differ, uneven classes, a model of some skill."""

import numpy as np
import pandas as pd

LABELS = ["anger", "neutral", "sadness", "fear"]
SHARES = [0.4, 0.35, 0.2, 0.05]


def fake_predictions(
    clips: int = 300, speakers: int = 12, seeds: tuple[int, ...] = (1,), skill: float = 1.5, split: str = "test"
) -> pd.DataFrame:
    """Rows of one split. The clips are the same ones for any skill and seed; fold is the speaker's number modulo 3."""
    corpus = np.random.default_rng(len(split))
    speaker = corpus.integers(speakers, size=clips)
    truth = corpus.choice(len(LABELS), p=SHARES, size=clips)
    ease = corpus.normal(0, 0.5, speakers)[speaker]
    runs = []
    for seed in seeds:
        logits = np.random.default_rng([seed, int(100 * (skill + 100))]).normal(size=(clips, len(LABELS)))
        logits[np.arange(clips), truth] += skill + ease
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        run = {
            "id": [f"{split}{clip:04d}" for clip in range(clips)],
            "split": split,
            "seed": seed,
            "fold": speaker % 3,
            "speaker": [f"S{number:02d}" for number in speaker],
            "gender": np.where(speaker % 2, "male", "female"),
            "duration": 3.0,
            "truth": np.array(LABELS)[truth],
            **{f"p_{label}": probabilities[:, c] for c, label in enumerate(LABELS)},
        }
        runs.append(pd.DataFrame(run))
    return pd.concat(runs, ignore_index=True)


def fake_regression(clips: int = 200, speakers: int = 10, seeds: tuple[int, ...] = (1,)) -> pd.DataFrame:
    """Rows of test of a regression of arousal, which it predicts well, and valence, which it does not predict."""
    table = fake_predictions(clips, speakers, seeds).drop(columns=["truth", *[f"p_{label}" for label in LABELS]])
    generator = np.random.default_rng(0)
    truth = np.tile(generator.normal(3, 1, (clips, 2)), (len(seeds), 1))
    noise = generator.normal(0, 1, (len(table), 2))
    return table.assign(
        truth_arousal=truth[:, 0],
        truth_valence=truth[:, 1],
        pred_arousal=truth[:, 0] + 0.3 * noise[:, 0],
        pred_valence=3 + noise[:, 1],
    )
