"""Consoles that lack letters: every command prints, with escapes in place of what cannot be shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fakes.tiny_runs import SMALLEST, TINY
from fakes.tones import write_tones

pytestmark = pytest.mark.heavy  # each command is a process
ROOT = Path(__file__).parents[1]
NAMES = {"anger": "خشم", "neutral": "خنثی", "sadness": "غم"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("persian")
    manifest = write_tones(folder / "clips")
    text = manifest.read_text()
    for english, persian in NAMES.items():
        text = text.replace(f",{english},", f",{persian},")
    manifest.write_text(text, encoding="utf-8")
    values = TINY | {"backbone_config": SMALLEST, "manifest": str(manifest), "output_dir": str(folder / "run")}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder / "config.yaml"


def test_every_command_prints_persian_labels_on_a_console_without_them(config):
    run = str(config.parent / "run")
    commands = [
        ("data_prep.py", str(config)),
        ("run_ser.py", str(config)),
        ("-m", "ser", "audit", run),
        ("-m", "ser", "predict", str(config.parent / "clips"), "--model", run),
        ("-m", "ser", "compare", run, run),
        ("-m", "ser", "report", run, "--latex"),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    for command in commands:
        done = subprocess.run([sys.executable, *command], capture_output=True, cwd=ROOT, env=environment)
        said = (done.stdout + done.stderr).decode("cp1252")
        assert done.returncode == 0, f"{command}: {said}"
        assert "codec can't encode" not in said
        if "compare" not in command:
            assert "\\u062e" in said, command
