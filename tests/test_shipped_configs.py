"""`ser configs`: every YAML file of the checkout is listed, printed, and installed by pip."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ser.cli import app

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml"))


def test_every_configuration_has_a_line_and_says_what_it_is():
    lines = CliRunner().invoke(app, ["configs"]).stdout.splitlines()
    assert [f"{line.split()[0]}.yaml" for line in lines] == NAMES
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", ["recipes/probe", "recipes/probe.yaml", "configs/recipes/probe.yaml"])
def test_one_is_printed_as_it_is(name):
    shown = CliRunner().invoke(app, ["configs", "show", name]).stdout
    assert shown == (ROOT / "configs" / "recipes" / "probe.yaml").read_text(encoding="utf-8")


def test_an_unknown_name_is_refused():
    result = CliRunner().invoke(app, ["configs", "show", "nothing"])
    assert (result.exit_code, "there is no configuration 'nothing'" in result.stderr) == (2, True)


@pytest.mark.slow
def test_the_wheel_holds_them(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    found = sorted(name.partition("share/ser/configs/")[2] for name in names if "share/ser/configs/" in name)
    assert found == NAMES
