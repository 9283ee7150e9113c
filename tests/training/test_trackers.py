"""What TensorBoard, MLflow and Weights & Biases are told of a run, beyond its training."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from fakes.tiny_runs import train
from fakes.tones import write_tones

from ser.run_folder import TENSORBOARD, read_results
from ser.training import trackers


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), clips_per_class=3)


def events_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / TENSORBOARD)).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["finetune", "probe"])
def test_tensorboard_keeps_the_curves_and_the_test_scores_of_a_finished_run(tmp_path, manifest, mode):
    run = train(tmp_path / "run", manifest, "--report_to", "tensorboard", "--train_mode", mode)
    test, events = read_results(run)["test"], events_of(run)
    low, high = test["intervals"]["uar"]
    found = [events[name][-1] for name in ("test/uar", "test/uar_low", "test/uar_high", "test/accuracy")]
    assert found == pytest.approx([test["uar"], low, high, test["accuracy"]], abs=1e-6)
    assert ("train/loss" in events) == (mode == "finetune")


def arguments(*names, should_save=True):
    return SimpleNamespace(report_to=list(names), should_save=should_save, run_name="a run")


@pytest.fixture
def mlflow(monkeypatch):
    """Stands for mlflow; `said` is what was asked of it."""
    module = ModuleType("mlflow")
    module.said, module.active = [], None

    class Run:
        def __enter__(self):
            module.active = self

        def __exit__(self, *_):
            module.said.append("end")
            module.active = None

    def start_run(run_name):
        module.said.append(f"start {run_name}")
        return Run()

    module.start_run, module.active_run = start_run, lambda: module.active
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return module


def test_a_run_of_mlflow_ends_after_the_scores_and_not_with_the_training(mlflow):
    with trackers.tracked_run(arguments("mlflow")):
        assert mlflow.said == ["start a run"]
    assert mlflow.said == ["start a run", "end"]


def test_a_run_of_mlflow_that_somebody_else_began_is_left_to_them(mlflow, monkeypatch):
    mlflow.active = object()
    with trackers.tracked_run(arguments("mlflow")):
        pass
    mlflow.active = None
    monkeypatch.setenv("MLFLOW_RUN_ID", "theirs")
    with trackers.tracked_run(arguments("mlflow")):
        pass
    assert mlflow.said == []


def test_every_fold_is_a_run_of_its_own_on_weights_and_biases(monkeypatch):
    ended = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: ended.append(True)))
    for _ in range(2):
        with trackers.tracked_run(arguments("wandb")):
            pass
    with trackers.tracked_run(arguments("wandb", should_save=False)):
        pass
    assert len(ended) == 2
