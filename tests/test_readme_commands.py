"""Every command of README.md and docs/ is run as a reader types it, in a folder with small files of the same names.

What must be changed for that stands in CHANGES, with the reason. A command that is neither run nor named there fails.
"""

import ast
import doctest
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from fakes.loopback_hub import LoopbackHub
from fakes.pages import CODE, ROOT, commands, commands_in_sentences
from fakes.workspace import environment, fill, make_workspace

pytestmark = pytest.mark.heavy
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


class Change(NamedTuple):
    """Words of a command, and what is run in their place; None: the command is not run."""

    shown: str
    run: str | None
    why: str


SMALL_RUN = "configs/emodb_tiny.yaml --data_dir emodb --num_train_epochs 1"
# Of so few clips, fold 2 tests F01, whose clip the README names.
SMALL_DEMO = "--synthetic_clips 216 --fold 2 --num_train_epochs 1"
CHANGES = (
    Change("pip install", None, "needs a network, and would change what the tests run on"),
    Change("make test", None, "these are the tests"),
    Change("many_gpus.yaml", None, "needs GPUs; tests/training/test_launchers.py reads the file"),
    Change("one_gpu.yaml", None, "needs a GPU; tests/training/test_launchers.py reads the file"),
    Change("two_nodes.yaml", None, "needs two machines; tests/training/test_launchers.py starts both on one"),
    Change("two_cpu_processes.yaml", None, "tests/training/test_launchers.py trains with it"),
    Change("calls/ --model runs/demo --output scored --ray", None, "README's --ray starts the same cluster"),
    Change("--ray --output", None, "likewise"),
    Change("--ray auto", None, "needs a cluster that runs already"),
    Change("--ray 10.0.0.5:6379", None, "needs a cluster that runs already"),
    Change("benchmarks/exactness.py", None, "twelve models of real size take minutes"),
    Change("benchmarks/quality.py", None, "70 runs take minutes; each is one of run_ser.py or ser baseline"),
    Change("benchmarks/bench_gpu.py", None, "it needs a GPU"),
    Change("make demo", f"python run_ser.py configs/demo.yaml {SMALL_DEMO}", "it installs, and trains for a minute"),
    Change("configs/demo.yaml --use_cpu", None, "README's torchrun does the same"),
    Change("run_ser.py CONFIG", f"run_ser.py {SMALL_RUN}", "stands for any configuration"),
    Change("data_prep.py CONFIG", "data_prep.py configs/emodb_tiny.yaml --data_dir emodb", "stands for any"),
    Change("show NAME", "show recipes/probe", "stands for any configuration"),
    Change("report RUN", "report runs/mine", "stands for any run"),
    Change("path/to/ShEMO", "ShEMO", "stands for any path"),
    Change("s3://bucket/calls", "calls", "needs a store on the network"),
    Change("--seeds 13,21,42", "--seeds 13", "three seeds are trained like one"),
    Change("ser robustness runs", "+ --conditions telephone", "16 conditions take a minute"),
    Change("shemo_hubert_base.yaml --fold all", "+ --fold 0", "fine-tunes five models; the probe is run on all folds"),
    Change("run_ser.py configs/shemo_hubert_base.yaml", "+ --num_train_epochs 1", "hours on a CPU"),
    Change("shemo_hubert_base.yaml", "+ --data_dir ShEMO", "870 MB of audio"),
    Change("cross configs/many_corpora.yaml", None, "the other command of this page does the same with two corpora"),
    Change("many_corpora.yaml", "+ --train_mode probe", "made for a GPU"),
    Change("emodb_tiny.yaml --over", "+ --num_train_epochs 1 --fold 0", "12 epochs of 20 models take minutes"),
    Change("configs/own_clips.yaml", "+ --num_folds 3", "ten folds are trained like three"),
    Change("--synthetic_clips 480", "--synthetic_clips 216", "there can be no fewer"),
)
# Other commands need what these leave; they are run first, in this order.
FIRST = (
    "make demo",
    "python run_ser.py configs/own_clips.yaml --corpus manifest --manifest clips.csv --output_dir runs/mine",
    "ser export runs/demo --format onnx",
)


@dataclass(frozen=True)
class Promise:
    """What a page says that a command leaves or prints."""

    files: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    also: Callable[["Place"], None] = field(default=lambda place: None)


def is_a_paper(place: "Place") -> None:
    """The second command of a newcomer gives tables, the paragraph on the method and BibTeX."""
    text = (place.folder / "scores.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"\paragraph{Method.} We used 70 clips" in text
    assert "% @misc{radford2022whisper," in text


def has_rows(name: str, rows: int, *columns: str) -> Callable[["Place"], None]:
    """A check that a table has so many rows and these columns."""

    def check(place: "Place") -> None:
        path = place.folder / name
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        assert len(table) == rows
        assert set(columns) <= set(table.columns), list(table.columns)

    return check


def is_on_the_hub(place: "Place") -> None:
    assert {"README.md", "model.safetensors", "ser_model.py"} <= place.hub.files("user/name").keys()
    assert len(place.hub.repos["model", "user/name"].commits) > 1


MINE = tuple(f"runs/mine/{name}" for name in ("model.safetensors", "config.json", "report.html", "README.md"))
PROMISES = {
    "make demo": Promise(("runs/demo/model.safetensors", "runs/demo/examples/F01A01.wav")),
    FIRST[1]: Promise(MINE, (r"^test, 70 clips: uar \S+ \[", "^runs/mine: model of all clips")),
    "python run_ser.py configs/own_clips.yaml --data_dir clips --accept_speaker_leakage true --output_dir runs/mine": (
        Promise(MINE, (r"^test, 70 clips: uar \S+ \[", "^runs/mine: model of all clips"))
    ),
    "ser report runs/mine --latex > scores.tex": Promise(("scores.tex",), also=is_a_paper),
    "ser predict calls/ --model runs/demo --format csv --output calls.csv": Promise(
        also=has_rows("calls.csv", 3, "file", "label", "score")
    ),
    "ser predict interview.wav --model runs/demo --timeline --format srt": Promise(
        words=(r"\A1\n00:00:00,000 --> 00:00:\d\d,\d{3}\n\w+",)
    ),
    "ser predict calls/ --model runs/demo --embeddings calls.parquet": Promise(also=has_rows("calls.parquet", 3)),
    "ser predict s3://bucket/calls --model user/name --output scored --ray": Promise(also=has_rows("scored", 3)),
    "ser predict calls/ --model runs/demo --resume --output scored": Promise(also=has_rows("scored", 3)),
    "ser push runs/mine user/name": Promise(words=("pushed to http",), also=is_on_the_hub),
    "ser push runs/mine user/name --dry-run": Promise(words=("dry run: nothing was pushed",)),
    "ser export runs/demo --format onnx": Promise(("runs/demo/model.onnx",)),
}


@dataclass
class Place:
    """The reader's folder, its Hub, and a process that runs commands in it."""

    folder: Path
    hub: LoopbackHub
    environment: dict[str, str]
    warm: subprocess.Popen
    pristine: Path
    done: dict[str, subprocess.CompletedProcess] = field(default_factory=dict)

    def run(self, words: list[str]) -> subprocess.CompletedProcess:
        """Runs a command line; `> FILE` at its end is done as the shell does it."""
        target = None
        if ">" in words:
            words, target = words[: words.index(">")], words[-1]
        if words[0] not in ("python", "ser") or words[1].startswith("benchmarks") or "--ray" in words:
            done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        else:
            outputs = [str(self.pristine.parent / name) for name in ("stdout", "stderr")]
            self.warm.stdin.write(json.dumps([words, str(self.folder), *outputs]) + "\n")
            self.warm.stdin.flush()
            code = int(self.warm.stdout.readline())
            done = subprocess.CompletedProcess(words, code, *[Path(name).read_text("utf-8") for name in outputs])
        if target:
            (self.folder / target).write_text(done.stdout, encoding="utf-8")
        return done

    def keep(self) -> None:
        """Makes what the folder holds now the state before each command."""
        shutil.rmtree(self.pristine, ignore_errors=True)
        shutil.copytree(self.folder, self.pristine, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.pristine, self.folder, symlinks=True)


def changed(shown: str) -> list[str] | None:
    """The words of a command with the changes above; None where it is not run."""
    for change in CHANGES:
        if change.shown in shown:
            if change.run is None:
                return None
            is_more = change.run.startswith("+ ")
            shown = shown + change.run[1:] if is_more else shown.replace(change.shown, change.run)
    return shlex.split(shown)


def text_of(words: list[str]) -> str:
    return " ".join(word if word == ">" else shlex.quote(word) for word in words)


def all_commands() -> dict[str, str]:
    """Every command of the pages, and the first page that shows it."""
    shown: dict[str, str] = {}
    for page in PAGES:
        for words in [*commands(page), *commands_in_sentences(page)]:
            shown.setdefault(text_of(words), page.relative_to(ROOT).as_posix())
    return shown


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The reader's folder after the commands of FIRST, whose results are kept too."""
    pytest.importorskip("espeakng_loader", reason="the demo's corpus needs it: pip install '.[demo]'")
    root = tmp_path_factory.mktemp("reader")
    (root / "folder").mkdir()
    with LoopbackHub() as hub:
        make_workspace(root / "folder", hub)
        own = environment(hub, root / "home")
        command = [sys.executable, str(ROOT / "tests" / "fakes" / "warm_process.py")]
        warm = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own, text=True)
        assert warm.stdout.readline() == "ready\n"
        place = Place(root / "folder", hub, own, warm, root / "pristine")
        place.done = {shown: place.run(changed(shown)) for shown in FIRST}
        for name in ("tanh", "linear", "five_folds", "ten_folds"):  # for `ser compare`
            (place.folder / "runs" / name).mkdir()
            shutil.copy(place.folder / "runs" / "mine" / "predictions.parquet", place.folder / "runs" / name)
        fill(hub, "user/name", place.folder / "runs" / "mine")
        place.keep()
        yield place
        warm.stdin.close()
        warm.wait()


COMMANDS = all_commands()


@pytest.mark.parametrize("shown", [pytest.param(shown, id=f"{page}: {shown}") for shown, page in COMMANDS.items()])
def test_a_command_does_what_the_page_says(shown, place):
    words = changed(shown)
    if words is None:
        pytest.skip(next(change.why for change in CHANGES if change.shown in shown and change.run is None))
    place.restore()
    promise = PROMISES.get(shown, Promise())
    if shown.startswith("ser serve"):
        assert "<html" in first_answer(place, words)
        return
    if shown in place.done:
        done = place.done[shown]
    else:
        if words[:2] == ["python", "run_ser.py"] and "--output_dir" in words:
            shutil.rmtree(place.folder / words[words.index("--output_dir") + 1], ignore_errors=True)
        done = place.run(words)
    assert done.returncode == 0, done.stderr[-3000:]
    missing = [name for name in promise.files if not (place.folder / name).exists()]
    assert not missing, sorted(str(path) for path in place.folder.glob("*/*/*"))
    for pattern in promise.words:
        assert re.search(pattern, done.stdout + done.stderr, re.MULTILINE), done.stdout
    promise.also(place)


def first_answer(place: Place, words: list[str]) -> str:
    """Starts a page, reads it once and interrupts it."""
    own = place.environment | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, cwd=place.folder, env=own, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            with urllib.request.urlopen(address) as answer:
                return answer.read().decode("utf-8")
        finally:
            server.send_signal(signal.SIGINT)


def test_no_change_and_no_promise_is_about_a_command_that_is_gone():
    assert [change.shown for change in CHANGES if not any(change.shown in shown for shown in COMMANDS)] == []
    assert set(PROMISES) <= set(COMMANDS)
    assert set(FIRST) <= set(COMMANDS)


def test_what_a_run_leaves_is_what_the_readme_lists(place):
    place.restore()
    block = README.read_text(encoding="utf-8").split("## What a run leaves")[1].split("```")[1]
    names = re.findall(r"[\w.]+\.\w+(?=[ \n])|\w+/(?= )", re.sub(r"  .*", " ", block))
    assert len(names) > 10
    missing = {name for name in names if not (place.folder / "runs" / "demo" / name).exists()}
    assert missing == {"data.html", "tensorboard/"}, "the README says what these two need"


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "using_a_model.md"], ids=lambda page: page.name)
def test_the_python_of_a_page_answers_in_the_shape_that_is_shown(page, place):
    place.restore()
    blocks = [block for language, block in CODE.findall(page.read_text(encoding="utf-8")) if language == "python"]
    examples = doctest.DocTestParser().get_examples("\n".join(blocks))
    shown = [example for example in examples if example.want]
    assert shown
    program = "".join(f"print(repr({e.source.strip()}))\n" if e.want else e.source for e in examples)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place.folder,
        env=place.environment | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    labels = json.loads((place.folder / "runs" / "demo" / "config.json").read_text())["label2id"]
    for example, line in zip(shown, done.stdout.splitlines()[-len(shown) :], strict=True):
        assert isinstance(ast.literal_eval(line), list)
        keys, said = (set(re.findall(r"'(\w+)':", text)) for text in (line, example.want))
        assert keys == said
        assert set(re.findall(r"'label': '(\w+)'", example.want)) <= set(labels)
