"""What README, CONTRIBUTING and docs/ say is true: paths and flags exist, and the recipes work as they are written."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache

import pytest
import yaml
from fakes.pages import CODE, ROOT, commands

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "RESULTS.md"],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
OUR_PATH = re.compile(r"(?<![\w./-])(?:ser|configs|tests|benchmarks|docs|\.github)/[\w./*-]*\w[\w/*]*")
# `# FILE, a new file`, `# FILE, at the end`, or `# FILE, after: LINE`.
PLACE = re.compile(r"# (?P<file>[\w./]+), (?P<how>a new file|at the end|after|before|in place of)(?:: (?P<line>.*))?")
PROGRAMS_OF_OTHERS = {"pip", "git", "pre-commit"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def recipe_blocks() -> list[tuple[re.Match, str]]:
    """The blocks of CONTRIBUTING: where each belongs, and its lines."""
    found = []
    for language, block in CODE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        if language == "python":
            head, _, lines = block.partition("\n")
            place = PLACE.fullmatch(head)
            assert place, f"the block that begins with {head!r} does not say where it belongs"
            found.append((place, lines))
    return found


@cache
def click_commands():
    import typer

    from ser.cli import app

    return typer.main.get_command(app)


def check_command(words: list[str]) -> None:
    """Parses a command line as its program would, and runs nothing."""
    words = words[: words.index(">")] if ">" in words else words
    program, rest = words[0], words[1:]
    if program in ("accelerate", "torchrun") or (program == "python" and rest[0] == "run_ser.py"):
        from ser.training.arguments import parse_arguments

        parse_arguments(resolved(words[words.index("run_ser.py") + 1 :]))
    elif program == "python" and rest[0] == "data_prep.py":
        from ser.data.data_arguments import read_data_arguments

        read_data_arguments(resolved(rest[1:]))
    elif program == "python":
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        if "import yardstick" in source:  # the flags of all speed benchmarks
            source += (ROOT / "benchmarks" / "yardstick.py").read_text(encoding="utf-8")
        for flag in (word for word in rest[1:] if word.startswith("--")):
            assert f'"{flag}"' in source, f"{rest[0]} has no flag {flag}"
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "ser":
        check_ser(rest)
    else:
        assert program in PROGRAMS_OF_OTHERS, f"what is {program!r}?"


def check_ser(words: list[str]) -> None:
    """Parses a command line of `ser`, and what the command passes on: a configuration, or flags of the data."""
    name, *rest = words
    command = click_commands().commands[name]
    context = command.make_context(name, resolved(rest))
    if not passes_on(command):
        return
    from ser.data.data_arguments import read_data_arguments
    from ser.training.arguments import parse_arguments

    if name in ("robustness", "export", "push", "push-dataset"):
        read_data_arguments(context.args)
    else:
        parse_arguments([context.params["config"], *context.args])


def passes_on(command) -> bool:
    """Whether flags that a command does not know are those of a configuration."""
    return command.context_settings.get("ignore_unknown_options", False)


def resolved(words: list[str]) -> list[str]:
    """Configurations by their full path, so that the working directory does not matter."""
    return [str(ROOT / word) if word.startswith("configs/") and word.endswith(".yaml") else word for word in words]


@each_page
def test_every_path_that_a_page_names_exists(page):
    new = {place["file"] for place, _ in recipe_blocks() if place["how"] == "a new file"}
    text = page.read_text(encoding="utf-8")
    missing = [
        path for path in set(OUR_PATH.findall(text)) - new if not (ROOT / path).exists() and not list(ROOT.glob(path))
    ]
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)|^\[\w+\]: (?!https?:)(\S+)", text, re.MULTILINE)
    missing += [link for pair in links for link in pair if link and not (page.parent / link).exists()]
    assert not missing


@each_page
def test_every_yaml_that_a_page_names_exists(page):
    names = set(re.findall(r"[\w./*-]+\.yaml", page.read_text(encoding="utf-8"))) - {"run_config.yaml"}
    assert not [name for name in names if not list(ROOT.glob(name)) and not list((ROOT / "configs").glob(name))]


@each_page
def test_every_flag_of_ser_that_a_sentence_names_exists(page):
    sentences = CODE.sub("", page.read_text(encoding="utf-8"))
    for name, rest in re.findall(r"`ser ([a-z][a-z-]*)([^`]*)`", sentences):
        command = click_commands().commands[name]
        known = {flag for parameter in command.params for flag in parameter.opts}
        flags = set(re.findall(r"--[a-z_0-9-]+", rest))
        assert flags <= known or passes_on(command), f"ser {name}{rest}"


@each_page
def test_every_command_of_a_page_uses_flags_that_exist(page):
    for words in commands(page):
        try:
            check_command(words)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{' '.join(words)}\n{type(error).__name__}: {error}")


def test_the_pages_hold_commands_of_every_program():
    """If no command were found, the test above would be about nothing."""
    found = {tuple(words[:2]) for page in PAGES for words in commands(page)}
    assert {("python", "run_ser.py"), ("python", "data_prep.py"), ("ser", "predict"), ("ser", "ablate")} <= found


@each_page
def test_lines_are_short_but_those_of_tables_and_outputs(page):
    text = page.read_text(encoding="utf-8")
    lines = CODE.sub(lambda block: block[0] if block[1] else "", text).splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", "# ser/"))]


def test_the_workflow_and_the_hooks_name_what_exists():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    for step in workflow["jobs"]["test"]["steps"]:
        if "run" in step:
            check_command(shlex.split(step["run"]))
    assert yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]


def put_in(source: str, place: re.Match, lines: str) -> str:
    """A file's text with the lines of a block where the block says they belong."""
    if place["how"] == "at the end":
        return f"{source}\n\n{lines}"
    anchor = place["line"] + "\n"
    assert f"\n{anchor}" in source, f"{place['file']} has no line {place['line']!r}"
    new = {"after": anchor + lines, "before": lines + anchor, "in place of": lines}[place["how"]]
    return source.replace(f"\n{anchor}", f"\n{new}", 1)


# Runs in the changed copy of the tree: each recipe is used as somebody would who has just followed it.
FOLLOWED = """
import json
import sys
import numpy as np
import soundfile
from pathlib import Path
from fakes.one_step import gradient_of_one_step, small_model
from fakes.tiny import noise
import torch
from data_prep import load_corpus
from ser.data.data_arguments import DataArguments
from ser.evaluation.metrics import score
from ser.inference.output_formats import text_of
from ser.inference.predict import Request
from ser.publish.card_sections import scores
from ser.training.arguments import ModelArguments

folder = Path(sys.argv[1])
(folder / "drama").mkdir()
for seed, name in enumerate(("s01-anger-01", "s01-neutral-02", "s02-anger-01")):
    soundfile.write(folder / "drama" / f"{name}.wav", noise(0.5, seed), 16_000)
clips = load_corpus(DataArguments(corpus="drama", data_dir=str(folder / "drama"), cache_dir=str(folder / "cache")))

gradient = gradient_of_one_step("", 4, 2, "generalised", str(folder / "run"))
model = small_model(pooling="max").eval()
wave, mask = torch.from_numpy(noise(1.0))[None], torch.ones(1, 16_000, dtype=torch.long)
padded, longer = torch.nn.functional.pad(wave, (0, 8_000)), torch.nn.functional.pad(mask, (0, 8_000))
with torch.no_grad():
    alone, together = model(wave, mask).logits, model(padded, longer).logits
try:
    ModelArguments(pooling="max", train_mode="probe")
    refused = ""
except ValueError as error:
    refused = str(error)

found = score(np.array([0, 1, 1, 1]), np.eye(2)[[0, 0, 1, 1]], ["a", "b"])
Request(["a.wav"], format="audacity").check()
answers = [{"file": "a.wav", "segments": [{"start": 0.0, "end": 1.5, "label": "anger", "scores": []}]}]
print(json.dumps({
    "clips": [clips["speaker"][:], clips["emotion"][:]],
    "gradient": sum(float(g.abs().sum()) for g in gradient.values()),
    "shift": float((alone - together).abs().max()),
    "refused": refused,
    "metric": found["worst_recall"],
    "card": scores({"test": found, "task": "classification"}),
    "format": "".join(text_of(answers, "audacity", [])),
}))
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What the recipes of CONTRIBUTING give, all applied to one copy of the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("ser", "tests/fakes"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tree)
    for place, lines in recipe_blocks():
        path = tree / place["file"]
        assert path.exists() is (place["how"] != "a new file")
        source = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(lines if place["how"] == "a new file" else put_in(source, place, lines), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FOLLOWED, str(tree)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_recipe_for_a_corpus_reads_three_files(followed):
    assert followed["clips"] == [["s01", "s01", "s02"], [0, 1, 0]]


@pytest.mark.slow
def test_the_recipe_for_a_loss_trains_a_step(followed):
    assert followed["gradient"] > 0


@pytest.mark.slow
def test_the_recipe_for_a_pooling_pools_the_clip_alone_and_refuses_statistics(followed):
    assert followed["shift"] < 1e-5
    assert "max needs frames" in followed["refused"]


@pytest.mark.slow
def test_the_recipe_for_a_metric_reaches_results_and_card(followed):
    assert followed["metric"] == pytest.approx(2 / 3)
    assert "worst recall" in followed["card"]


@pytest.mark.slow
def test_the_recipe_for_an_output_format_writes_it(followed):
    assert followed["format"] == "0.0\t1.5\tanger\n"
