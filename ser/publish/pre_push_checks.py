"""Checks before the push: a model leaves this machine only if all of them pass."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.publish.privacy import private_paths, what_is_private
from ser.publish.staging import check_code, staged_files, strangers
from ser.run_folder import CARD, PREDICTIONS, SPLIT, fold_folders, read_results

NUM_CLIPS = 8
TOLERANCE = 1e-5
ClipAudio = Callable[[str], bytes]


def audio_of(dataset: Any) -> ClipAudio:
    """A function from the id of a clip of a prepared `datasets.Dataset` to the bytes of its WAV file."""
    from ser.data.audio import undecoded

    dataset = undecoded(dataset)
    rows = {clip: row for row, clip in enumerate(dataset["id"][:])}
    return lambda clip: dataset[rows[clip]]["audio"]["bytes"]


def check(folder: Path, run_dir: Path, clip_audio: ClipAudio, token: str | None = None) -> None:
    """Checks the folder that is to be pushed.

    Args:
        folder: Exactly what is to be pushed.
        run_dir: The run it was made from.
        clip_audio: Gives the bytes of a clip's WAV file by its id, or raises `KeyError` or `FileNotFoundError`.
        token: The Hub's token; no file may hold it.

    Raises:
        ValueError: A check failed. The message says which, and what to do.
    """
    results = read_results(folder)
    check_privacy(folder, private_paths(run_dir, read_results(run_dir).get("config", {})), token)
    check_metadata(folder, results)
    check_tested_split(run_dir, results, test_predictions(run_dir))
    check_scores(folder, own_predictions(run_dir), clip_audio)


def check_privacy(folder: Path, paths: list[str], token: str | None = None) -> None:
    """Only files of a model are pushed, and none names a folder of this machine or holds a token or audio."""
    names = staged_files(folder)
    if strangers(names):
        raise ValueError(f"{strangers(names)[0]} is not part of a pushed model; remove it.")
    for name in names:
        with open(folder / name, "rb") as file:
            # For safetensors, read only the header.
            size = int.from_bytes(file.read(8), "little") if name.endswith(".safetensors") else -1
            data = file.read(size)
        if found := what_is_private(data, name, paths, token):
            raise ValueError(f"{found}; this must not leave the machine. Remove it from the run's files.")


def check_metadata(folder: Path, results: Mapping[str, Any]) -> None:
    """The Hub accepts the card's metadata, and the card's figures are those of the results."""
    from ser.publish.card import check_card

    check_card((folder / CARD).read_text(encoding="utf-8"), results)


def check_tested_split(run_dir: Path, results: Mapping[str, Any], predictions: pd.DataFrame) -> None:
    """The split is the one named in the results, and it does not leak unless results and card say speaker-dependent.

    For a model trained on all clips, the split of each fold is checked.
    """
    from ser.data.folds import hash_of_folds
    from ser.data.splits import load_split

    own = run_dir / SPLIT
    paths = [own] if own.is_file() else [fold / SPLIT for fold in fold_folders(run_dir, SPLIT)]
    if not paths:
        raise ValueError(f"{own} is missing: it says which clips the model was tested on. Run again.")
    splits = {(split := load_split(path)).fold: (path, split) for path in paths}
    digest = hash_of_folds([splits[fold][1].sha256 for fold in sorted(splits)])
    named = results.get("protocol", {}).get("split_sha256")
    if digest != named:
        where = own if own.is_file() else f"{run_dir}: the splits of its folds together"
        raise ValueError(
            f"{where} has the hash {digest}, results.json names {named}: the results are those of another split. Run "
            "again."
        )
    for fold, (path, split) in splits.items():
        rows = predictions if len(splits) == 1 else predictions[predictions["fold"] == fold]
        _check_fold(path, split, results, set(rows["id"]))


def _check_fold(path: Path, split: Any, results: Mapping[str, Any], tested: set[str]) -> None:
    """The clips of test are those that were tested, and the split does not leak; see [`check_split`]."""
    from ser.data.audit import audit_files

    unknown = sorted(tested - set(split.test))
    if unknown or len(tested) < len(split.test):
        raise ValueError(
            f"predictions.parquet tests {len(tested)} clips, {path} names {len(split.test)}"
            + (f"; {unknown[0]!r} is not among them" if unknown else "")
            + ": make the run again."
        )
    if results.get("protocol", {}).get("speaker_independent") is not True:
        return
    differ = bool(results.get("config", {}).get("speakers_differ"))
    audit = audit_files([str(path)], speakers_differ=differ)
    leaks = audit["leaks"] if audit["checked"]["speakers"] else ["the file names no speaker"]
    if leaks or not split.speaker_independent:
        reason = " ".join(leaks) or "it says itself that it is not"
        raise ValueError(f"{path} does not audit clean, and the results say speaker-independent: {reason}")


def check_scores(folder: Path, predictions: pd.DataFrame, clip_audio: ClipAudio) -> None:
    """In a fresh process the pipeline loads the folder, every weight fits, and clips get the scores of the run."""
    check_code(folder)
    clips = chosen_clips(predictions)
    with tempfile.TemporaryDirectory() as scratch:
        request: dict[str, Any] = {
            "folder": str(folder.resolve()),
            "clips": {},
            "is_ours": (folder / "ser_model.py").is_file(),
        }
        for number, clip in enumerate(clips):
            path = Path(scratch) / f"{number}.wav"
            path.write_bytes(_audio(clip, clip_audio))
            request["clips"][clip] = str(path)
        answer = ask(request, Path(scratch))
    for problem in ("missing", "left_over"):
        if names := answer[problem]:
            words = problem.replace("_", " ")
            raise ValueError(f"{len(names)} weights are {words}, such as {names[0]}: save the model again.")
    _compare(predictions.set_index("id").loc[clips], answer["scores"], request["is_ours"])


def ask(request: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Runs `ser/publish/fresh_process.py` in a new process, from an empty folder, offline and with empty caches.

    Raises:
        ValueError: The pipeline does not load the model or does not score a clip; the message ends with its own.
    """
    for name in ("empty", "cache"):
        (scratch / name).mkdir()
    request_path, answer_path = scratch / "request.json", scratch / "answer.json"
    request_path.write_text(json.dumps(request), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    program = Path(__file__).with_name("fresh_process.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, str(request_path), str(answer_path)],
        cwd=scratch / "empty",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode or not answer_path.is_file():
        reason = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"exit code {done.returncode}"]
        raise ValueError(f"In a new process, pipeline('audio-classification') does not load and run it: {reason[0]}")
    return json.loads(answer_path.read_text(encoding="utf-8"))


def test_predictions(run_dir: Path) -> pd.DataFrame:
    """The rows of test of a run.

    Raises:
        ValueError: There is none, so the model's scores cannot be checked.
    """
    from ser.predictions import read_predictions

    predictions = read_predictions(run_dir)
    rows = predictions[predictions["split"] == "test"]
    if rows.empty:
        raise ValueError(f"{run_dir / PREDICTIONS} holds no test clip; run again with --do_predict true.")
    return rows


def own_predictions(run_dir: Path) -> pd.DataFrame:
    """Predictions of the model in the folder: on test, or, for a model trained on all clips, on a few of them."""
    from ser.predictions import read_own_predictions
    from ser.run_folder import FINAL_PREDICTIONS

    return read_own_predictions(run_dir) if (run_dir / FINAL_PREDICTIONS).is_file() else test_predictions(run_dir)


def chosen_clips(predictions: pd.DataFrame) -> list[str]:
    """Ids of `NUM_CLIPS` clips (all, where there are fewer) from the shortest to the longest."""
    clips = predictions.sort_values(["duration", "id"])["id"].tolist()
    indices = np.linspace(0, len(clips) - 1, min(NUM_CLIPS, len(clips))).round().astype(int)
    return [clips[index] for index in indices]


def _audio(clip: str, clip_audio: ClipAudio) -> bytes:
    try:
        return clip_audio(clip)
    except (KeyError, FileNotFoundError):
        raise ValueError(
            f"The audio of clip {clip!r} was not found, so the model's scores cannot be compared with the run's. "
            "Give the corpus that the run was made with: --data_dir FOLDER."
        ) from None


def _compare(rows: pd.DataFrame, scores: Mapping[str, Mapping[str, float]], is_ours: bool) -> None:
    """Refuses scores that differ from the table by more than `TOLERANCE` (relative above 1)."""
    prefix = "p_" if any(column.startswith("p_") for column in rows) else "pred_"
    labels = [column.removeprefix(prefix) for column in rows if column.startswith(prefix)]
    for clip, given in scores.items():
        if set(given) != set(labels):
            raise ValueError(f"The model gives {', '.join(sorted(given))}; the run's gave {', '.join(labels)}.")
        for label in labels:
            wanted, value = float(rows.loc[clip, f"{prefix}{label}"]), given[label]
            if not abs(value - wanted) <= TOLERANCE * max(1.0, abs(wanted)):
                raise ValueError(
                    f"Clip {clip!r} scores {value:.6f} for {label}, and the run's model gave {wanted:.6f}: "
                    "weights, code or audio are not those of the results. Run again"
                    + ("." if is_ours else "; a stock model must score test with --per_device_eval_batch_size 1.")
                )
