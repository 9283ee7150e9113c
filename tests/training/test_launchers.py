"""`configs/accelerate/`: read by accelerate's own classes, and launched as far as a machine without GPUs can."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser, prepare_multi_gpu_env
from fakes.tiny_runs import ROOT, TINY, predictions_of, train
from fakes.tones import CLASSES, write_tones

CONFIGS = ROOT / "configs" / "accelerate"
QUIET = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
FLAGS = [
    *("--backbone_config", json.dumps({**TINY["backbone_config"], **QUIET}), "--final_dropout", "0"),
    *("--max_grad_norm", "0", "--logging_strategy", "steps", "--logging_steps", "1", "--num_train_epochs", "2"),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, manifest) -> Path:
    """A run of one process with batches of four clips."""
    folder = tmp_path_factory.mktemp("one") / "run"
    return train(folder, manifest, *FLAGS, "--per_device_train_batch_size", "4")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_one_that_accelerate_reads_and_says_how_it_is_launched(path):
    config = load_config_from_file(str(path))  # refuses a key that it does not know
    assert config.num_processes >= config.num_machines >= 1
    assert f"--config_file {path.relative_to(ROOT)}" in path.read_text()


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("many_gpus", (), {"nproc_per_node": "4"}),
        ("two_cpu_processes", (), {"nproc_per_node": "2"}),
        (
            "two_nodes",
            ("--machine_rank", "1", "--main_process_ip", "10.0.0.1"),
            {"nproc_per_node": "8", "nnodes": "2", "node_rank": 1, "rdzv_endpoint": "10.0.0.1:29500"},
        ),
        ("fsdp", (), {"nproc_per_node": "4"}),
    ],
)
def test_a_file_starts_as_many_processes_as_it_says(name, flags, expected):
    command = ["--config_file", str(CONFIGS / f"{name}.yaml"), *flags, "--main_process_port", "29500", "run_ser.py"]
    args = _validate_launch_command(launch_command_parser().parse_args(command))[0]
    environment = prepare_multi_gpu_env(args)
    assert {key: getattr(args, key) for key in expected} == expected
    if name == "fsdp":
        named = {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "ACCELERATE_USE_FSDP": "true"}
        named |= {
            "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
            "FSDP_TRANSFORMER_CLS_TO_WRAP": "WhisperEncoderLayer",
        }
        assert named.items() <= environment.items()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def environment() -> dict[str, str]:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def program(folder: Path, manifest: Path) -> list[str]:
    """The command line of the run of [`one_process`] for two processes, each with half of a batch."""
    (folder / "config.json").write_text(json.dumps(TINY | {"manifest": str(manifest)}))  # JSON is YAML
    flags = ["--output_dir", str(folder / "two"), *FLAGS, "--per_device_train_batch_size", "2"]
    return [str(ROOT / "run_ser.py"), str(folder / "config.json"), *flags]


LAUNCHERS = {
    "torchrun": [
        ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
        + ["--rdzv_endpoint", "localhost:0"]
    ],
    "accelerate": [["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "two_cpu_processes.yaml")]],
    "two nodes": [
        ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "two_nodes.yaml"), "--num_processes", "2"]
        + ["--mixed_precision", "no", "--main_process_ip", "127.0.0.1", "--machine_rank", str(rank)]
        for rank in (0, 1)
    ],
}


@pytest.mark.heavy
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_have_the_loss_curve_and_predictions_of_one(launcher, one_process, manifest, tmp_path):
    port = [] if launcher == "torchrun" else ["--main_process_port", free_port()]
    started = [
        subprocess.Popen(
            [sys.executable, *node, *port, *program(tmp_path, manifest), "--use_cpu", "true"],
            env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in LAUNCHERS[launcher]
    ]  # fmt: skip
    for process in started:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    two = tmp_path / "two"
    curves = [losses_of(folder) for folder in (one_process, two)]
    assert len(curves[0]) == 6
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-4)
    tables = [predictions_of(folder).sort_values("id", ignore_index=True) for folder in (one_process, two)]
    assert tables[1]["id"].is_unique
    pd.testing.assert_series_equal(tables[1]["id"], tables[0]["id"])
    columns = [f"p_{label}" for label in CLASSES]
    np.testing.assert_allclose(tables[1][columns], tables[0][columns], atol=1e-3)


def losses_of(folder: Path) -> list[float]:
    log = json.loads((folder / "training_log.json").read_text())
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.heavy
def test_fsdp_cuts_a_model_into_halves_and_its_gradient_is_that_of_the_whole(tmp_path):
    from fakes.sharded_step import gradient_of, small_model

    out, script = tmp_path / "sharded.pt", ROOT / "tests" / "fakes" / "sharded_step.py"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "fsdp.yaml"), "--num_processes", "2"]
    launch += ["--fsdp_transformer_layer_cls_to_wrap", "HubertEncoderLayer", "--main_process_port", free_port()]
    command = [sys.executable, *launch, str(script), str(out)]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    sharded, model = torch.load(out, weights_only=True), small_model()
    assert [name for name in sharded["cut"] if "layers.0" in name]
    assert np.median(list(sharded["shares"].values())) == 0.5
    gradient_of(model, range(8))
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(sharded["gradients"][name], parameter.grad, atol=1e-5, rtol=1e-4)
