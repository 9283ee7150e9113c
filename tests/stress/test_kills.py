"""Runs that are killed (SIGKILL) at random moments and given again: they end as unbroken runs do, bit for bit."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from fakes.tiny_runs import SMALLEST, TINY
from fakes.tones import write_tones

# What a run does when it is killed, and the method within which the kill is set off.
MOMENTS = {
    "in a step": ("ser.training.trainer.SERTrainer", "training_step"),
    "in an evaluation": ("ser.training.trainer.SERTrainer", "prediction_step"),
    "while a checkpoint is written": ("ser.training.trainer.SERTrainer", "_save_checkpoint"),
    "at the end": ("run_ser", "finish"),
}
# Calls within a run of 3 epochs, fewer than are made, and the longest wait within one: about as long as it takes.
CALLS = {"in a step": 9, "in an evaluation": 3, "while a checkpoint is written": 3, "at the end": 1}
SECONDS = {"in a step": 0.02, "in an evaluation": 0.02, "while a checkpoint is written": 0.05, "at the end": 1.0}
FLAGS = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "save_total_limit": 2, "backbone_config": None}
FULL = {
    "augmentations": [{"name": "AddGaussianNoise", "p": 0.5}, {"name": "Gain", "p": 0.5}],
    "mixup_alpha": 0.4,
    "dataloader_num_workers": 2,
}
# What says when and how long, not what came out.
TIMES = ("seconds", "versions")


def launch(config: str, kill: tuple[str, int, float] | None) -> None:
    """Makes a run in this process, which may kill itself: moment, number of the call, seconds after it began."""
    import importlib

    import run_ser

    # A child of a fork server would start data loader workers from one; a run starts them as its platform does.
    multiprocessing.set_start_method(None, force=True)
    if kill is not None:
        place, name = MOMENTS[kill[0]]
        module, _, kind = (place, "", "") if place == "run_ser" else place.rpartition(".")
        owner: Any = importlib.import_module(module)
        owner = getattr(owner, kind) if kind else owner
        usual, calls = getattr(owner, name), []

        def with_a_kill(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == kill[1]:
                threading.Timer(kill[2], os.kill, (os.getpid(), signal.SIGKILL)).start()
            return usual(*args, **kwargs)

        setattr(owner, name, with_a_kill)
    raise SystemExit(run_ser.main([config]))


def ran(config: Path, kill: tuple[str, int, float] | None = None) -> int:
    """The exit code of a run in a process of its own, forked from one that has imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["run_ser", "ser.training.trainer", "audiomentations"])
    process = context.Process(target=launch, args=(str(config), kill))
    process.start()
    process.join()
    return process.exitcode


def outcome(folder: Path) -> tuple[bytes, pd.DataFrame, dict[str, Any]]:
    """Weights, predictions and results of a finished run."""
    results = json.loads((folder / "results.json").read_text())
    results = {key: value for key, value in results.items() if key not in TIMES}
    results["config"].pop("output_dir")
    return (folder / "model.safetensors").read_bytes(), pd.read_parquet(folder / "predictions.parquet"), results


def check_kills(tmp_path: Path, count: int, flags: dict[str, Any], figure, what: str) -> None:
    manifest = write_tones(tmp_path / "tones")
    base = TINY | FLAGS | flags | {"manifest": str(manifest), "cache_dir": str(tmp_path / "cache")}
    base["backbone_config"] = TINY["backbone_config"] | SMALLEST

    def config_of(name: str) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(base | {"output_dir": str(tmp_path / name)}))
        return path

    assert ran(config_of("whole")) == 0
    weights, predictions, results = outcome(tmp_path / "whole")
    start, killed, same = time.perf_counter(), 0, 0
    for number in range(count):
        generator, moment = random.Random(number), list(MOMENTS)[number % len(MOMENTS)]
        kill = (moment, generator.randint(1, CALLS[moment]), generator.uniform(0, SECONDS[moment]))
        config = config_of(f"broken-{number}")
        # One that ended before its kill was due tells nothing.
        killed += ran(config, kill) == -signal.SIGKILL
        assert ran(config) in (0, 2), kill
        found = outcome(tmp_path / f"broken-{number}")
        assert found[0] == weights, f"other weights after {kill}"
        pd.testing.assert_frame_equal(found[1], predictions, check_exact=True)
        assert found[2] == results, f"other results after {kill}"
        same += 1
    figure(what, killed, same, 0, time.perf_counter() - start)
    assert killed >= 0.8 * count


@pytest.mark.heavy
@pytest.mark.parametrize("flags", [{}, pytest.param(FULL, marks=pytest.mark.stress)], ids=["plain", "augmented"])
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, flags, figure):
    check_kills(tmp_path, 3, flags, figure, "runs killed")


@pytest.mark.stress
def test_a_run_killed_at_twenty_moments_ends_as_an_unbroken_one(tmp_path, figure):
    check_kills(tmp_path, 20, {}, figure, "runs killed: in a step, in evaluation, in a checkpoint, at the end")


@pytest.mark.stress
def test_a_run_with_augmentation_mixup_and_workers_killed_at_twenty_moments_ends_as_an_unbroken_one(tmp_path, figure):
    check_kills(tmp_path, 20, FULL, figure, "the same with augmentation, mixup and two workers")
