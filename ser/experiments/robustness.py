"""How much a finished run loses when its test clips are noisy, loud, coded, reverberant or played at another speed.

Every clip is scored again by the model of its own fold, under every condition of `ser.experiments.corruptions`, as
the run itself was scored. A drop is the UAR of the clips as they are minus the UAR under the condition; its interval
comes from the same draws of speakers for both.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.data.audio import clip_wave, undecoded
from ser.data.batching import Collator
from ser.data.clips import listed
from ser.evaluation.compare import compare
from ser.evaluation.format import format_difference, format_interval, format_seconds
from ser.evaluation.intervals import score_intervals
from ser.evaluation.metrics import uar
from ser.evaluation.scored import scored
from ser.experiments.conditions import CONDITIONS, Condition
from ser.experiments.corruptions import Corruptor, achieved_kbit_per_second, mean_spectrum
from ser.files import draft_of
from ser.predictions import labels_of, read_predictions, softmax, test_rows
from ser.progress import progress_of
from ser.run_folder import ROBUSTNESS, add_to_results, models_of_folds, read_results
from ser.training.scored_clips import cutting_of, outputs_of_waves

CLEAN = "clean"
# The spectrum of the noise and the bit rates are measured on this many clips at most, evenly spaced over the corpus.
_SPECTRUM_CLIPS, _RATE_CLIPS = 500, 50
# Greatest allowed difference, mean over clips, from the probabilities of the run; half precision stays well below.
_TOLERANCE = 0.02

Load = Callable[[Path], tuple[Any, Any]]


def robustness(
    run_dir: Path,
    dataset: Any,
    load: Load,
    conditions: Sequence[Condition] = CONDITIONS,
    device: str | None = None,
    folds: str | None = None,
) -> dict[str, Any]:
    """Scores a run's test clips under every condition; writes `robustness.parquet` and a section of `results.json`.

    Args:
        run_dir: Finished run, of one model or pooled over folds and seeds.
        dataset: The corpus it was trained on.
        load: Takes the folder of a model, returns the model and its feature extractor.
        conditions: What is done to the clips.
        device: Where the model runs; the first GPU where there is one.
        folds: Numbers of the folds to score, with commas between; None: all.

    Returns:
        The section `robustness` of `results.json`: `clean` (`uar`, `interval`, `n`) and `conditions`, by name
        `parameters`, `uar`, `interval`, `drop`, `drop_interval`, `p_value` and `n`; `folds`, the names of the folders
        of the folds, if some were chosen.

    Raises:
        ValueError: The run is a regression or holds no model, or the corpus is not the one that it was tested on.
        FileNotFoundError: The run is not finished.
    """
    folders, results = models_of_folds(run_dir, folds), classification_results(run_dir)
    clips = undecoded(dataset)
    corruptor = Corruptor(mean_spectrum(_waves(clips, _SPECTRUM_CLIPS)))
    batch_size = int(results.get("config", {}).get("per_device_eval_batch_size", 8))
    names = [CLEAN, *(condition.name for condition in conditions)]
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    print(plan_words(folders, names), flush=True)
    started = time.monotonic()
    with progress_of(len(folders) * len(names), "condition", "conditions") as progress:
        for folder in folders:
            rows = rows_of_test(folder, clips)
            scorer = Scorer(*load(folder), labels_of(rows), batch_size, device)
            for condition in (None, *conditions):
                table = scorer.table(rows, clips, corruptor, condition)
                tables[condition.name if condition else CLEAN].append(table)
                progress.update()
                if progress.n == 1 < progress.total:
                    # The clean clips of one model: what a condition does to the clips comes on top.
                    left = (time.monotonic() - started) * (progress.total - 1)
                    progress.write(f"about {format_seconds(left)} to go, judged by the first condition")
            check_unchanged(tables[CLEAN][-1], rows, folder)
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    rates = {c.name: achieved_kbit_per_second(_waves(clips, _RATE_CLIPS), c) for c in conditions}
    section = robustness_section(whole, conditions, rates)
    if folds is not None:
        section["folds"] = sorted({folder.name for folder in folders})
    with draft_of(run_dir / ROBUSTNESS) as draft:
        pd.concat(whole.values(), ignore_index=True).to_parquet(draft, index=False)
    add_to_results(run_dir, robustness=section)  # reads them again: another command may have added its section since
    return section


def plan_words(folders: Sequence[Path], names: Sequence[str]) -> str:
    """What is going to be computed, in one line, before hours of work begin."""
    rows = [test_rows(read_predictions(folder)) for folder in folders]
    clips = sum(len(own) for own in rows)
    return (
        f"{len(names)} conditions ({CLEAN} is one), {len(folders)} models, {clips} test clips in all: "
        f"{len(names) * clips} clips to score. Restrict it with --conditions and --folds."
    )


class Scorer:
    """A model that scores corrupted clips.

    Args:
        model: A classifier of waves.
        feature_extractor: The feature extractor of that model.
        labels: Classes of the run, in the order of its probabilities.
        batch_size: Clips scored at once.
        device: Where the model runs; the first GPU where there is one.

    Raises:
        ValueError: The model knows other classes than the run's predictions.
    """

    def __init__(
        self, model: Any, feature_extractor: Any, labels: list[str], batch_size: int, device: str | None = None
    ):
        import torch

        known = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        if known != labels:
            raise ValueError(
                f"the model knows the classes {known}, its predictions hold {labels}; train the run again."
            )
        self.labels, self.batch_size = labels, batch_size
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.collate = model.eval().to(self.device), Collator(feature_extractor)
        self.cutting = cutting_of(model, feature_extractor)

    def table(self, rows: pd.DataFrame, clips: Any, corruptor: Corruptor, condition: Condition | None) -> pd.DataFrame:
        """The predictions of `rows` under a condition (None: clips unchanged), with the column `condition` in front."""
        table = rows.drop(columns="row")
        table[[f"p_{label}" for label in self.labels]] = np.concatenate(
            [self.probabilities(waves) for waves in self._batches(rows, clips, corruptor, condition)]
        )
        table.insert(0, "condition", condition.name if condition else CLEAN)
        return table

    def probabilities(self, waves: list[np.ndarray]) -> np.ndarray:
        """Probabilities of a batch of waves, `[B, C]`, float64, as in the predictions of a run."""
        return softmax(outputs_of_waves(self.model, self.collate, waves, self.cutting))

    def _batches(
        self, rows: pd.DataFrame, clips: Any, corruptor: Corruptor, condition: Condition | None
    ) -> Iterator[list[np.ndarray]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(rows), self.batch_size):
                part = rows.iloc[start : start + self.batch_size]
                waves = [clip_wave(clips[row]) for row in part["row"].tolist()]
                if condition is not None:
                    waves = list(pool.map(lambda wave, name: corruptor(wave, condition, name), waves, part["id"]))
                yield waves


def classification_results(run_dir: Path) -> dict[str, Any]:
    """The content of `results.json` of a classification.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The run is a regression, which has no UAR.
    """
    results = read_results(run_dir)
    if results["task"] != "classification":
        raise ValueError(
            f"{run_dir}: is a {results['task']}; robustness is measured in UAR and needs a classification."
        )
    return results


def rows_of_test(folder: Path, clips: Any) -> pd.DataFrame:
    """A run's predictions on test, the longest clip first, with the column `row`, the index of each clip in the corpus.

    Raises:
        ValueError: The corpus lacks a clip, or holds one of another length.
    """
    predictions = read_predictions(folder)
    rows = predictions[predictions["split"] == "test"]
    if rows.empty:
        raise ValueError(f"{folder}: holds no prediction on test; run it with --do_predict true first.")
    row_of = {clip: row for row, clip in enumerate(clips["id"])}
    absent = [clip for clip in rows["id"] if clip not in row_of]
    if absent:
        raise ValueError(
            f"{folder}: {len(absent)} of {len(rows)} test clips are not in the corpus ({listed(absent, 3)}); give the "
            "corpus that the run was trained on, with --data_dir."
        )
    rows = rows.assign(row=[row_of[clip] for clip in rows["id"]]).sort_values("id")
    found = np.asarray(clips["duration"])[rows["row"]]
    if "duration" in rows and (off := np.abs(found - rows["duration"]) > 1e-3).any():
        clip = rows[off].iloc[0]
        raise ValueError(
            f"{folder}: {clip['id']} was {clip['duration']:.3f} s long when it was tested and is "
            f"{found[off.to_numpy()][0]:.3f} s in the corpus now; give the audio that the run was trained on."
        )
    return rows.iloc[np.argsort(-found, kind="stable")].reset_index(drop=True)


def check_unchanged(clean: pd.DataFrame, rows: pd.DataFrame, folder: Path) -> None:
    """Checks that model and audio still give the probabilities that the run wrote.

    Raises:
        ValueError: They give others.
    """
    columns = [f"p_{label}" for label in labels_of(rows)]
    off = np.abs(clean[columns].to_numpy() - rows[columns].to_numpy()).max(axis=1)
    if off.mean() > _TOLERANCE:
        raise ValueError(
            f"{folder}: model and corpus give other probabilities than predictions.parquet holds, such as for "
            f"{rows['id'][off.argmax()]} ({off.max():.3f} off); model or audio was changed since. Score the run "
            "again."
        )


def robustness_section(
    tables: dict[str, pd.DataFrame], conditions: Sequence[Condition], rates: dict[str, float | None]
) -> dict[str, Any]:
    """UAR and its drop under every condition; see [`robustness`].

    Args:
        tables: Predictions by name of the condition; under `clean` those of the unchanged clips.
        conditions: The conditions with these names.
        rates: Bit rate in kbit/s by name of the condition; None where it is no codec.
    """
    clean, entries = tables[CLEAN], {}
    for condition in conditions:
        rate = rates[condition.name]
        achieved = {} if rate is None else {"achieved_kbit_per_second": round(rate, 1)}
        change = compare(clean, tables[condition.name])["uar"]
        entries[condition.name] = {
            "parameters": {"kind": condition.kind, **condition.parameters, **achieved},
            **_score(tables[condition.name]),
            "drop": change["difference"],
            "drop_interval": change["interval"],
            "p_value": change["p_value"],
        }
    return {"clean": _score(clean), "conditions": entries}


def robustness_table(section: dict[str, Any]) -> str:
    """The section as text: one line for each condition."""
    lines = [f"{'condition':<22} {'UAR':<22} drop", f"{CLEAN:<22} {_uar(section['clean'])}"]
    for name, scores in section["conditions"].items():
        lines.append(f"{name:<22} {_uar(scores):<22} {format_difference(scores['drop'], scores['drop_interval'])}")
    return "\n".join(lines)


def _uar(scores: dict[str, Any]) -> str:
    return format_interval(scores["uar"], scores["interval"])


def _score(table: pd.DataFrame) -> dict[str, Any]:
    labels = labels_of(table)
    rows = scored(table, labels)
    value = float(uar(rows.confusions().sum(axis=0)).mean())
    interval = score_intervals(rows.confusions(), labels, moments=rows.moments())["uar"]
    return {"uar": value, "interval": interval, "n": int(table["id"].nunique())}


def _waves(clips: Any, most: int) -> Iterator[np.ndarray]:
    """At most `most` waves of the corpus, evenly spaced."""
    for row in np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).astype(int)).tolist():
        yield clip_wave(clips[row])
