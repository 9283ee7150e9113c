import json
import subprocess
import sys

import pytest
import yaml
from fakes.loopback_hub import LoopbackHub, talk_to
from fakes.made_run import make_run

from ser.publish.space import push_space, write_space


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made")).folder


@pytest.fixture(scope="module")
def space(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    write_space(run, folder, "user/model")
    return folder


@pytest.fixture
def hub(monkeypatch):
    with LoopbackHub() as hub:
        talk_to(hub, monkeypatch)
        yield hub


def test_a_space_names_its_sdk_its_model_and_its_script(space):
    metadata = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert metadata["sdk"] == "gradio"
    assert metadata["models"] == ["user/model"]
    assert (space / metadata["app_file"]).is_file()


def test_the_figures_beside_a_space_are_the_runs_own(space, run):
    uar = json.loads((run / "results.json").read_text())["test"]["uar"]
    assert f"UAR {uar:.3f}" in (space / "README.md").read_text()


def test_requirements_are_pinned(space):
    lines = (space / "requirements.txt").read_text().splitlines()
    assert all("==" in line and "+" not in line for line in lines)


@pytest.mark.heavy
def test_the_app_of_a_space_starts_from_what_the_space_holds_alone(space, run):
    script = f"""
import runpy, sys
sys.path.insert(0, {str(space)!r})
import gradio
def launch(page, **look):
    print("launched", sorted(look), len(page.fns))
gradio.Blocks.launch = launch
source = open({str(space / "app.py")!r}).read().replace("user/model", {str(run)!r})
exec(compile(source, "app.py", "exec"), {{}})
outside = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in ("ser", "ser_model") and m.__file__]
assert all(file.startswith({str(space)!r}) for file in outside), outside
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=space, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "launched" in done.stdout


def test_a_space_is_pushed_in_one_commit_and_no_second_time_when_nothing_changed(run, hub):
    for _ in range(2):
        assert "user/name" in push_space(run, "user/name", model="user/model")
        files = hub.files("user/name", "space")
        assert 'MODEL = "user/model"' in files["app.py"].decode()
        assert "ser/page/templates/page.css" in files
        assert hub.requests["commit"] == 1


def test_nothing_leaves_on_a_dry_run(run, hub, capsys):
    assert push_space(run, "user/name", dry_run=True) is None
    assert "nothing was pushed" in capsys.readouterr().out
    assert not hub.requests


def test_a_space_goes_into_a_new_folder_and_over_nothing(run, tmp_path):
    push_space(run, "user/name", output=tmp_path / "new")
    assert (tmp_path / "new" / "app.py").is_file()
    with pytest.raises(FileExistsError, match="choose a folder that is not there"):
        push_space(run, "user/name", output=tmp_path / "new")


@pytest.mark.parametrize("name", ["name", "user/name/more", "user/na me"])
def test_what_is_no_name_of_a_space_is_refused(run, name):
    with pytest.raises(ValueError, match="expected user/name"):
        push_space(run, name)
