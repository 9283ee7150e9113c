"""A command line that cannot work is refused before torch is imported, in the words that come after it too."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fakes.tiny_runs import ROOT

from ser.training.arguments import ARGUMENTS, parse_arguments
from ser.training.command_line import check_command_line, flags_of_a_run, name_of
from ser.training.losses import build_loss
from ser.training.model_arguments import HEADS, LOSSES, POOLINGS

DEMO = str(ROOT / "configs" / "demo.yaml")
HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy")


def test_the_names_read_from_the_source_are_the_fields_of_the_dataclasses():
    assert set(flags_of_a_run()) == {f.name for kind in ARGUMENTS for f in dataclasses.fields(kind)}


def test_the_defaults_read_from_the_source_are_those_of_the_dataclasses():
    flags = flags_of_a_run()
    for kind in ARGUMENTS:
        for field in dataclasses.fields(kind):
            if flags[field.name].default is not None:
                assert flags[field.name].default == field.default, field.name


def test_choices_that_stand_twice_are_equal():
    import ser_model

    assert (HEADS, POOLINGS) == (ser_model.HEADS, ser_model.POOLINGS)
    for loss in LOSSES:
        build_loss(parse_arguments([DEMO, "--loss", loss])[0], [2.0, 3.0])


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_pass(config):
    check_command_line([str(config)])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--learning_rat 1", r"unknown flag '--learning_rat'. Did you mean 'learning_rate'\?"),
        ("--learning-rat=1", r"unknown flag '--learning-rat'. Did you mean 'learning_rate'\?"),
        ("--learning_rate fast", "--learning_rate: 'fast' is not a number"),
        ("--num_folds 2.5", "--num_folds: '2.5' is not a whole number"),
        ("--calibrate perhaps", "--calibrate: 'perhaps' is neither true nor false"),
        ("--loss focl", r"--loss: 'focl' is not one of .* Did you mean 'focal'\?"),
        ("--corpus emdob", "--corpus: 'emdob' is not one of"),
        ("--seeds a,b", "--seeds: 'a,b' is not a list of numbers"),
        ("--seed -1", "--seed: -1 is out of range"),
        ("--warmup_ratio 0.1", "use --warmup_steps"),
        ("--final_dropout 2", "--final_dropout: 2.0 is outside 0 to 1"),
    ],
)
def test_a_wrong_flag_is_refused(flags, words):
    with pytest.raises(ValueError, match=words):
        check_command_line([DEMO, *flags.split()])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("learning_rate", "fast", "mine.yaml: learning_rate: 'fast' is not a number"),
        ("poling", "mean", r"mine.yaml: unknown key 'poling'. Did you mean 'pooling'\?"),
        ("final_dropout", 2, "mine.yaml: final_dropout: --final_dropout: 2.0 is outside 0 to 1"),
    ],
)
def test_a_wrong_line_of_a_file_names_file_and_key(key, value, words, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"output_dir": "runs/x", key: value}))
    with pytest.raises(ValueError, match=words):
        check_command_line([str(path)])


def test_truth_values_are_read_as_transformers_reads_them():
    assert name_of("--no_do_eval") == name_of("--no-do-eval") == "do_eval"
    for flags, expected in (("--use_cpu", True), ("--use_cpu no", False), ("--no_calibrate", None)):
        model, _, training = parse_arguments([DEMO, *flags.split()])
        assert (model.calibrate is False) if expected is None else training.use_cpu is expected


@pytest.mark.parametrize(
    "command",
    [
        ["run_ser.py", DEMO, "--learning_rat", "1"],
        ["-m", "ser", "leak", DEMO, "--learning_rat", "1"],
        ["-m", "ser", "ablate", DEMO, "--over", "poolin=mean"],
        ["-m", "ser", "ablate", DEMO, "--over", "pooling=mean,maximum"],
        ["-m", "ser", "cross", DEMO, "--learning_rat", "1"],
        ["-m", "ser", "baseline", DEMO, "--learning_rat", "1"],
        ["-m", "ser", "robustness", "nowhere"],
        ["-m", "ser", "compare", "nowhere", "nowhere"],
        ["-m", "ser", "report", "nowhere"],
        ["-m", "ser", "export", "nowhere"],
        ["-m", "ser", "push-space", "nowhere", "a/b"],
        ["-m", "ser", "predict", "x.wav", "--modle", "x"],
    ],
    ids=lambda words: " ".join(Path(word).name for word in words),
)
@pytest.mark.slow
def test_nothing_heavy_is_imported_for_a_typo(command, tmp_path):
    found = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    imported = {
        line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time:")
    }
    said = [line for line in found.stderr.splitlines() if not line.startswith("import time:")]
    assert found.returncode == 2, found.stderr[-2000:]
    assert not imported & set(HEAVY)
    assert len(said) == 1 or "--modle" in found.stderr


@pytest.mark.heavy
def test_under_accelerate_launch_an_error_is_one_line_too():
    launcher = [str(Path(sys.executable).parent / "accelerate"), "launch", "--quiet"]
    command = [*launcher, "--config_file", "configs/accelerate/cpu.yaml", "run_ser.py", DEMO, "--learning_rat", "1"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode != 0
    assert found.stderr.splitlines()[-1] == "run_ser.py: unknown flag '--learning_rat'. Did you mean 'learning_rate'?"
    assert "Traceback" not in found.stderr
