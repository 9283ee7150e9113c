"""`ser predict --ray`: clusters of this machine, with workers and commands that are killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from fakes.cli_runs import ser, write
from fakes.tiny import LABELS, noise

from ser.inference import on_ray
from ser.inference.loading import load_pipeline
from ser.inference.predict import Request
from ser.inference.shards import weights_hash

ROOT = Path(__file__).parents[2]
# Small shards, so that a run that is killed has written some.
SCRIPT = "from ser.inference import shards\nshards.write_shards.__defaults__ = (10,)\nfrom ser.cli import app\napp()\n"
# Opening `poison://...` kills the process that does it, as a fault in a decoder would.
POISON = """
import os, signal, fsspec
class Poison(fsspec.AbstractFileSystem):
    def open(self, *_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
fsspec.register_implementation("poison", Poison)
"""


@pytest.fixture
def requests(monkeypatch) -> list[Request]:
    """The requests that `ser predict` makes of its flags; none is answered."""
    made: list[Request] = []
    monkeypatch.setattr("ser.inference.predict.run", lambda request, load: made.append(request) or 0)
    return made


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (("a.wav", "--ray"), "local"),
        (("--ray", "a.wav"), "local"),
        (("--ray", "--resume", "a.wav"), "local"),
        (("--ray", "auto", "a.wav"), "auto"),
        (("a.wav", "--ray", "10.0.0.5:6379"), "10.0.0.5:6379"),
        (("--ray=head:6379", "a.wav"), "head:6379"),
        (("a.wav",), None),
    ],
)
def test_an_address_may_follow_the_flag_and_a_path_is_none(requests, monkeypatch, arguments, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ser(*arguments, "--model", "m").exit_code == 0
    assert (requests[0].ray, requests[0].paths) == (address, ["a.wav"])


def test_a_job_of_a_cluster_runs_on_that_cluster(requests, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    ser("a.wav", "--model", "m", "--ray")
    assert requests[0].ray == "10.0.0.5:6379"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--ray",), "--ray: needs --output and a folder"),
        (("--ray", "--output", "o", "--format", "csv"), "csv cannot be used with --ray"),
        (("--ray", "--output", "o", "--device", "cuda:1"), "use --device cuda"),
        (("--ray", "--output", "o", "--ray-actors", "0"), "--ray-actors: 0; it needs --ray, and a number of 1 or more"),
        (("--ray-actors", "2"), "--ray-actors: 2; it needs --ray"),
    ],
)
def test_flags_without_meaning_are_refused_before_a_model_is_loaded(flags, words):
    result = ser("a.wav", "--model", "nowhere", *flags)
    assert result.exit_code == 2
    assert words in result.stderr


def test_without_ray_the_command_says_how_to_install_it(clips, model_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    result = ser(clips / "a.wav", "--model", model_dir, "--ray", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "--ray needs Ray: pip install 'ser[ray]'" in result.stderr


@pytest.mark.parametrize(
    ("cluster", "flags", "pool"),
    [
        ({"CPU": 16.0, "GPU": 4.0}, {}, (4, {"num_gpus": 1})),
        ({"CPU": 16.0, "GPU": 4.0}, {"actors": 2}, (2, {"num_gpus": 1})),
        ({"CPU": 16.0, "GPU": 4.0}, {"device": "cpu"}, (16, {"num_cpus": 0.75})),
        ({"CPU": 16.0}, {}, (16, {"num_cpus": 0.75})),
        ({"CPU": 16.0}, {"actors": 3}, (3, {"num_cpus": 0.75})),
        ({"CPU": 8.0}, {"device": "cuda"}, (1, {"num_gpus": 1})),  # its GPUs are started when they are asked for
    ],
)
def test_one_actor_a_gpu_or_a_core(monkeypatch, cluster, flags, pool):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cluster_resources=lambda: cluster))
    assert on_ray._pool(Request(["a.wav"], ray="auto", **flags)) == pool


def test_a_cluster_of_this_machine_has_the_gpus_of_this_machine(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0}))
    with pytest.raises(ValueError, match=r"--device: cuda, but this machine has no GPU"):
        on_ray._pool(Request(["a.wav"], ray="local", device="cuda"))


def test_an_address_where_nothing_listens_is_refused_at_once(clips, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = ser(clips / "a.wav", "--model", model_dir, "--ray", f"127.0.0.1:{port}", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert f"--ray: 127.0.0.1:{port} does not answer (Connection refused)" in result.stderr


def test_an_actor_with_other_weights_says_so_in_place_of_scores(model_dir):
    actor = on_ray._Scorer(Request(["a.wav"]), lambda: load_pipeline(str(model_dir)), "0" * 16)
    problem = on_ray._content(actor(on_ray._cell([("a.wav", noise(1))])))
    assert isinstance(problem, ValueError)
    assert "has no model. --model: its weights have the hash" in str(problem)


def test_answers_that_come_twice_count_once_and_lost_files_are_asked_for_again_one_by_one(monkeypatch):
    asked = []

    def streamed(request, files, pipe, load, files_in_block):
        asked.append((files, files_in_block))
        found = ["a", "b", "a"] if files_in_block > 1 else ["c"]
        return iter([{"file": name, "scores": []} for name in found])

    monkeypatch.setattr(on_ray, "cluster", lambda *_: nullcontext())
    monkeypatch.setattr(on_ray, "_streamed", streamed)
    found = list(on_ray.answers(Request([], ray="local"), ["a", "b", "c", "d"], None, None))
    assert asked == [(["a", "b", "c", "d"], 256), (["c", "d"], 1)]
    assert [answer["file"] for answer in found] == ["a", "b", "c", "d"]
    assert found[3]["error"].startswith("the process that reads it dies each time")


def test_an_error_of_the_code_is_no_fault_of_a_recording(model_dir, monkeypatch):
    pipe = load_pipeline(str(model_dir))
    monkeypatch.setattr(on_ray, "decoded_buffers", lambda *_: 1 / 0)
    [table] = on_ray._decode(on_ray._cell(["a.wav"]), pipe.model.config, pipe.feature_extractor, 1.0)
    actor = on_ray._Scorer(Request(["a.wav"]), lambda: pipe, weights_hash(pipe.model))
    for answer in (actor(table), actor(on_ray._cell(["no pair"]))):
        assert isinstance(on_ray._content(answer), on_ray._WorkerError)
    assert "ZeroDivisionError" in str(on_ray._content(actor(table)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """120 clips of up to two seconds."""
    folder = tmp_path_factory.mktemp("corpus")
    seconds = np.random.default_rng(0).uniform(0.3, 2, 120)
    for number, length in enumerate(seconds):
        write(folder / f"{number:03d}.wav", noise(float(length), number))
    return folder


@pytest.fixture(scope="module")
def expected(corpus, model_dir, tmp_path_factory) -> dict[str, dict]:
    """What the command says of the corpus without Ray."""
    output = tmp_path_factory.mktemp("plain") / "out"
    assert ser(corpus, "--model", model_dir, "--output", output, "--resume").exit_code == 0
    return rows_of(output)


class Command:
    """`ser predict --ray` with two actors, in a process of its own."""

    def __init__(self, folder: Path, *arguments, **environment: str):
        script = folder / "predict.py"
        script.write_text(SCRIPT)
        command = [sys.executable, str(script), "predict", *map(str, arguments), "--ray", "--ray-actors", "2"]
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.tree():
            process.kill()
        self.process.kill()
        self.process.communicate()

    def tree(self) -> list[psutil.Process]:
        if not psutil.pid_exists(self.process.pid):
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def actors(self) -> list[psutil.Process]:
        return [one for one in self.tree() if "_Scorer" in " ".join(one.cmdline())]

    def wait_for_shards(self, output: Path, count: int = 1) -> None:
        deadline = time.monotonic() + 240
        while len(list(output.glob("*.parquet"))) < count:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def result(self) -> tuple[int, str]:
        """Exit code and what was printed on stderr."""
        stderr = self.process.communicate(timeout=300)[1]
        return self.process.returncode, stderr


def rows_of(output: Path) -> dict[str, dict]:
    rows = pq.read_table(output).to_pylist()
    assert len({row["file"] for row in rows}) == len(rows), "a file was written twice"
    return {row["file"]: row for row in rows}


def same_scores(found: dict[str, dict], expected: dict[str, dict]) -> None:
    assert found.keys() == expected.keys()
    for file, row in found.items():
        for label in LABELS:
            assert row[f"p_{label}"] == pytest.approx(expected[file][f"p_{label}"], abs=1e-5)


def listening(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield connection.laddr.ip.removeprefix("::ffff:")


@pytest.mark.heavy
def test_a_killed_actor_loses_nothing_and_the_cluster_listens_to_this_machine_only(
    corpus, expected, model_dir, tmp_path
):
    output = tmp_path / "out"
    with Command(tmp_path, corpus, "--model", model_dir, "--output", output) as command:
        command.wait_for_shards(output)
        actors = command.actors()
        assert len(actors) == 2
        os.kill(actors[0].pid, signal.SIGKILL)
        assert set(listening(command.tree())) == {"127.0.0.1"}
        servers = [one for one in command.tree() if one.name() in ("gcs_server", "raylet")]
        assert [one.environ()["RAY_USAGE_STATS_ENABLED"] for one in servers] == ["0", "0"]
        code, stderr = command.result()
    assert code == 0, stderr
    same_scores(rows_of(output), expected)


@pytest.mark.heavy
def test_a_killed_command_leaves_no_process_and_goes_on_where_it_was(corpus, expected, model_dir, tmp_path):
    output = tmp_path / "out"
    arguments = (corpus, "--model", model_dir, "--output", output)
    with Command(tmp_path, *arguments) as command:
        command.wait_for_shards(output, 2)
        workers = command.tree()
        command.process.kill()
        command.process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert 0 < len(rows_of(output)) < len(expected)
    with Command(tmp_path, *arguments) as command:
        code, stderr = command.result()
    assert code == 0, stderr
    assert f"Ray: {120 - 10 * len(before)} files" in stderr
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}.items()
    same_scores(rows_of(output), expected)
    assert psutil.wait_procs(workers, timeout=120)[1] == []


@pytest.mark.heavy
def test_bad_files_and_one_that_kills_its_reader_are_reported_at_the_end(clips, model_dir, tmp_path):
    (clips / "text.wav").write_text("no audio")
    (tmp_path / "sitecustomize.py").write_text(POISON)
    paths = [f"file://{clips / 'a.wav'}", clips / "text.wav", clips / "gone.wav", "poison://x.wav", clips / "d.WAV"]
    for number in range(20):
        paths.append(shutil.copy(clips / "e.mp3", clips / f"{number}.mp3"))
    output = tmp_path / "out"
    arguments = (*paths, "--model", model_dir, "--output", output)
    with Command(tmp_path, *arguments, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}") as command:
        code, stderr = command.result()
    assert code == 1, stderr
    lines = stderr.splitlines()
    assert "3 of 25 recordings could not be used:" in lines
    for name, words in (
        (clips / "text.wav", "is not audio"),
        (clips / "gone.wav", "No such file"),
        ("poison://x.wav", "the process that reads it dies each time"),
    ):
        assert any(line.startswith(f"  {name}: {words}") for line in lines), name
    rows = rows_of(output)
    assert len(rows) == 25
    assert sum(row["error"] is None for row in rows.values()) == 22


@pytest.mark.heavy
def test_timelines_are_those_of_one_process(clips, model_dir, tmp_path):
    arguments = (clips, "--model", model_dir, "--timeline", "--window-seconds", "0.5")
    with Command(tmp_path, *arguments, "--output", tmp_path / "ray") as command:
        code, stderr = command.result()
    assert code == 0, stderr
    assert ser(*arguments, "--output", tmp_path / "plain", "--resume").exit_code == 0
    found, plain = (pq.read_table(tmp_path / name).to_pandas() for name in ("ray", "plain"))
    found, plain = (table.sort_values(["file", "start"], ignore_index=True) for table in (found, plain))
    assert list(found["file"]) == list(plain["file"])
    assert np.allclose(found[["start", "end"]], plain[["start", "end"]])
    assert np.allclose(found[[f"p_{label}" for label in LABELS]], plain[[f"p_{label}" for label in LABELS]], atol=1e-5)
