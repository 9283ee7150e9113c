"""Pushing a run: the checks before the push, one commit, and what the Hub may answer."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fakes.loopback_hub import READ_ONLY_TOKEN, TOKEN, LoopbackHub, talk_to
from fakes.made_run import make_run

from ser.publish import fresh_process, pre_push_checks, staging
from ser.publish.hub import check_before_push, check_repo_id, commit_folder, push_run
from ser.publish.staging import check_run, stage, strangers
from ser.run_folder import read_results

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("made"))
    (made.folder / "examples").mkdir()
    (made.folder / "examples" / "clip.wav").write_bytes(made.audio["F03A00"])
    (made.folder / "checkpoints").mkdir()
    (made.folder / "checkpoints" / "optimizer.pt").write_bytes(b"state")
    (made.folder / "confusion_matrix.png").write_bytes(b"\x89PNG\r\n")
    return made


@pytest.fixture(scope="module")
def staged_once(made, tmp_path_factory):
    return staged(made.folder, tmp_path_factory.mktemp("staged") / "up")


@pytest.fixture
def up(staged_once, tmp_path):
    """What goes up of the run, to be spoiled."""
    return Path(shutil.copytree(staged_once, tmp_path / "up"))


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def client(hub, monkeypatch):
    """The client in this process, talking to the loopback Hub."""
    talk_to(hub, monkeypatch)
    return hub


@pytest.fixture
def folder(tmp_path):
    """Something to push: one small file, and one that goes by LFS."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    """Asks the probe without a new process, which takes seconds to start."""
    monkeypatch.setattr(pre_push_checks, "ask", lambda request, scratch: fresh_process.examine(**request))


def staged(run, folder):
    folder.mkdir()
    stage(run, folder, "user/emo")
    return folder


def environment(hub, home, token=TOKEN):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "2",
    }


def ser(*arguments):
    from typer.testing import CliRunner

    from ser.cli import app

    return CliRunner().invoke(app, list(map(str, arguments)))


# ------------------------------------------------------------------------------------------------------- the round trip
@pytest.mark.heavy
def test_a_run_that_is_pushed_classifies_elsewhere_as_it_did_at_home(made, hub, tmp_path):
    command = [sys.executable, "-c", "from ser.cli import app; app()", "push", str(made.folder), "user/emo"]
    pushed = subprocess.run(command, capture_output=True, text=True, env=environment(hub, tmp_path / "a"))
    assert pushed.returncode == 0, pushed.stderr
    assert len(hub.repos["model", "user/emo"].commits) == 2
    assert hub.files("user/emo").keys() == {
        "README.md",
        "config.json",
        "confusion_matrix.png",
        "model.safetensors",
        "preprocessor_config.json",
        "report.html",
        "results.json",
        "ser_model.py",
        "splits.json",
    }
    program = (
        "import json, sys; from transformers import pipeline\n"
        "classify = pipeline('audio-classification', model='user/emo', trust_remote_code=True)\n"
        "print(json.dumps({path: classify(path) for path in sys.argv[1:]}))"
    )
    test = pre_push_checks.test_predictions(made.folder).set_index("id")
    clips = [str(made.corpus / f"{clip}.wav") for clip in test.index]
    elsewhere = environment(hub, tmp_path / "b") | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, *clips], capture_output=True, text=True, env=elsewhere, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for path, answers in json.loads(done.stdout.splitlines()[-1]).items():
        for answer in answers:
            assert answer["score"] == pytest.approx(test.loc[Path(path).stem, f"p_{answer['label']}"], abs=1e-5)


def test_a_stock_model_passes_the_checks_without_remote_code(tmp_path, capsys, in_this_process):
    made = make_run(tmp_path, stock=True)
    assert push_run(made.folder, "user/emo", made.audio.__getitem__, dry_run=True) is None
    assert "checks passed" in (words := capsys.readouterr().out)
    assert "ser_model.py" not in words


# ------------------------------------------------------------------------------------------- the checks before the push
def test_code_that_is_not_the_installed_file_is_refused_before_it_runs(made, tmp_path):
    run, ran = made.copy(tmp_path / "run"), tmp_path / "ran"
    with open(run / "ser_model.py", "a") as code:
        code.write(f"\nopen({str(ran)!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"SHA-256 [0-9a-f]{64}, the installed .* has [0-9a-f]{64}.*Copy"):
        push_run(run, "user/emo", made.audio.__getitem__, dry_run=True)
    with pytest.raises(ValueError, match="not run"):
        pre_push_checks.check_scores(run, pre_push_checks.test_predictions(run), made.audio.__getitem__)
    assert not ran.exists()


def test_code_in_another_file_is_refused(made, tmp_path):
    run = made.copy(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "other.SERConfig"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"names the code 'other\.SERConfig'"):
        check_before_push(run, "user/emo")


@pytest.mark.heavy
def test_code_that_needs_this_project_is_found_out_in_a_process_of_its_own(made, tmp_path, monkeypatch):
    run = made.copy(tmp_path / "run")
    code = (run / "ser_model.py").read_text()
    (run / "ser_model.py").write_text(code.replace("import io\n", "import io\nimport ser.evaluation.format\n", 1))
    released = hashlib.sha256((run / "ser_model.py").read_bytes()).hexdigest()
    monkeypatch.setattr(staging, "RELEASED_CODE", (released,))
    with pytest.raises(ValueError, match="does not load and run it"):
        pre_push_checks.check_scores(run, pre_push_checks.test_predictions(run), made.audio.__getitem__)


def change_weights(run, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model.safetensors")
    change(weights)
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop("projector.bias"), "1 weights are missing, such as projector.bias"),
        (lambda weights: weights.update(extra=weights["projector.bias"].clone()), "left over, such as extra"),
        (lambda weights: weights["classifier.bias"][:1].add_(1e-3), "weights, code or audio are not those"),
    ],
)
def test_weights_that_are_missing_left_over_or_changed_stop_the_push(made, up, in_this_process, change, reason):
    change_weights(up, change)
    with pytest.raises(ValueError, match=reason):
        pre_push_checks.check(up, made.folder, made.audio.__getitem__)


def test_scores_that_are_those_of_the_run_pass(made, up, in_this_process):
    pre_push_checks.check(up, made.folder, made.audio.__getitem__)


def test_the_numbers_of_a_regression_are_compared_too(made, tmp_path, in_this_process):
    from fakes.tiny import names, tiny_model

    folder = tiny_model(tmp_path / "run", problem_type="regression", **names(("arousal", "valence")))
    given = fresh_process.examine(str(folder), {"a": str(made.corpus / "F03A00.wav")}, True)["scores"]["a"]
    row = {"id": "a", "duration": 1.0, "truth_arousal": 3.0, "truth_valence": 3.0}
    table = pd.DataFrame([row | {f"pred_{name}": value for name, value in given.items()}])
    pre_push_checks.check_scores(folder, table, {"a": made.audio["F03A00"]}.__getitem__)
    with pytest.raises(ValueError, match="for valence"):
        pre_push_checks.check_scores(folder, table.assign(pred_valence=0.0), {"a": made.audio["F03A00"]}.__getitem__)


def test_audio_that_is_not_at_hand_stops_the_push(made):
    with pytest.raises(ValueError, match="The audio of clip 'F03A00' was not found"):
        pre_push_checks.check_scores(made.folder, pre_push_checks.test_predictions(made.folder).head(1), {}.__getitem__)


def test_a_run_that_tested_nothing_is_refused(made, up, tmp_path):
    run = made.copy(tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet")
    table[table["split"] == "dev"].to_parquet(run / "predictions.parquet")
    with pytest.raises(ValueError, match="holds no test clip"):
        pre_push_checks.check(up, run, made.audio.__getitem__)


def spoil_split(run, **changes):
    """Writes `splits.json` again with some parts changed, and the hash that goes with them everywhere."""
    from ser.data.splits import Split, load_split, save_split, split_hash

    content = json.loads((run / "splits.json").read_text())
    split = Split(**{**load_split(run / "splits.json").__dict__, **changes})
    split = Split(**{**split.__dict__, "sha256": split_hash(split)})
    names = ("id", "speaker", "gender", "emotion")
    save_split(split, run / "splits.json", {n: [clip[i] for clip in content["clips"]] for i, n in enumerate(names)})
    results = json.loads((run / "results.json").read_text())
    results["protocol"]["split_sha256"] = split.sha256
    (run / "results.json").write_text(json.dumps(results))


def check_split(run):
    pre_push_checks.check_tested_split(run, read_results(run), pre_push_checks.test_predictions(run))


def test_a_speaker_in_train_and_test_stops_the_push_unless_the_results_say_so(made, tmp_path):
    run = made.copy(tmp_path / "run")
    train, test = (json.loads((run / "splits.json").read_text())[part] for part in ("train", "test"))
    spoil_split(run, train=(*train, test[0]), test=tuple(test[1:]))
    table = pd.read_parquet(run / "predictions.parquet")
    table[table["id"] != test[0]].to_parquet(run / "predictions.parquet")
    with pytest.raises(ValueError, match=r"does not audit clean.*1 of the 2 test speakers are also in train"):
        check_split(run)
    results = dict(read_results(run))
    results["protocol"]["speaker_independent"] = False
    (run / "results.json").write_text(json.dumps(results))
    check_split(run)


def test_a_split_that_was_changed_after_the_run_stops_the_push(made, tmp_path):
    run = made.copy(tmp_path / "run")
    content = json.loads((run / "splits.json").read_text())
    (run / "splits.json").write_text(json.dumps({**content, "dev": content["dev"][1:]}))
    with pytest.raises(ValueError, match="it was changed after it was written"):
        check_split(run)
    spoil_split(made.copy(tmp_path / "other"), dev=tuple(content["dev"][1:]))
    shutil.copy(tmp_path / "other" / "splits.json", run / "splits.json")
    with pytest.raises(ValueError, match="the results are those of another split"):
        check_split(run)


def test_clips_of_another_split_in_the_predictions_stop_the_push(made, tmp_path):
    run = made.copy(tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet").replace({"id": {"F03A00": "M01A00"}})
    table.to_parquet(run / "predictions.parquet")
    with pytest.raises(ValueError, match="'M01A00' is not among them"):
        check_split(run)


def test_a_card_that_the_hub_would_refuse_stops_the_push(made, up):
    card = (up / "README.md").read_text()
    (up / "README.md").write_text(card.replace("license: cc-by-4.0", "license: free beer"))
    with pytest.raises(ValueError, match="license is 'free beer'"):
        pre_push_checks.check(up, made.folder, made.audio.__getitem__)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("README.md", f"see {Path.home()}/data", "names a folder of this machine"),
        ("config.json", json.dumps({"_name_or_path": f"{ROOT}/runs/x"}), "names a folder of this machine"),
        ("ser_model.py", f"KEY = '{TOKEN}'", "token of the Hub"),
        ("report.html", "<audio src='data:audio/wav;base64,UklGRg=='>", "report.html holds audio"),
        ("speech.png", "RIFF....WAVE", "speech.png holds audio"),
        ("optimizer.pt", "state", "optimizer.pt is not part of a pushed model"),
        ("examples/clip.wav", "RIFF", "examples/clip.wav is not part of a pushed model"),
    ],
)
def test_a_path_a_token_audio_or_a_stranger_among_the_files_stops_the_push(made, up, name, content, reason):
    (up / name).parent.mkdir(exist_ok=True)
    (up / name).write_text(content)
    with pytest.raises(ValueError, match=reason):
        pre_push_checks.check(up, made.folder, made.audio.__getitem__)


def test_a_token_that_does_not_look_like_one_is_found_too(up):
    (up / "ser_model.py").write_text("KEY = 'my secret'")
    with pytest.raises(ValueError, match="token"):
        pre_push_checks.check_privacy(up, [], token="my secret")


# ------------------------------------------------------------------------------------------------------ what is staged
def test_what_goes_up_names_no_folder_of_this_machine(made, up):
    results = json.loads((up / "results.json").read_text())
    assert results["config"]["manifest"] == "clips.csv"
    assert results["config"]["output_dir"] == "run"
    text = "".join(path.read_text() for path in up.iterdir() if path.suffix in (".json", ".md", ".html", ".py"))
    assert str(made.folder.parent) not in text


def test_of_the_split_only_ids_go_up_and_still_load(made, up):
    from ser.data.splits import load_split

    assert load_split(up / "splits.json") == load_split(made.folder / "splits.json")
    assert "clips" not in json.loads((up / "splits.json").read_text())


def test_the_report_that_goes_up_holds_no_audio_even_if_the_runs_own_does(made, tmp_path):
    run = made.copy(tmp_path / "run")
    (run / "report.html").write_text("<audio src='data:audio/wav;base64,UklGRg=='>")
    assert "data:audio" not in (staged(run, tmp_path / "up") / "report.html").read_text()


def test_a_folder_of_several_runs_is_refused_with_one_of_them_named(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "all" / "seed-1" / "fold-0")
    with pytest.raises(ValueError, match=r"pools 1 runs.*seed-1/fold-0.*--final_fit true"):
        check_run(tmp_path / "all")


@pytest.mark.parametrize("name", ["model.safetensors", "results.json", "ser_model.py", "predictions.parquet"])
def test_a_run_that_lacks_a_file_is_refused_by_its_name(made, tmp_path, name):
    run = made.copy(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        check_run(run)


def test_weights_in_several_files_are_a_models_own():
    assert not strangers(["model-00001-of-00002.safetensors", "model.safetensors.index.json"])
    assert strangers(["training_args.bin", "examples/a.wav", "predictions.parquet"])


# ---------------------------------------------------------------------------------------------------------- one commit
def test_a_push_is_one_commit_that_also_deletes_what_is_stale(client, folder):
    commit_folder(folder, "user/emo", "model")
    client.repos["model", "user/emo"].files["LICENSE"] = (b"mine", False)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    commit_folder(folder, "user/emo", "model")
    assert client.files("user/emo").keys() == {"results.json", "model-00001-of-00001.safetensors", "LICENSE"}
    assert len(client.repos["model", "user/emo"].commits) == 3


def test_a_push_of_what_is_there_already_changes_nothing(client, folder):
    commit_folder(folder, "user/emo", "model")
    commit_folder(folder, "user/emo", "model")
    assert len(client.repos["model", "user/emo"].commits) == 2


def test_a_new_repository_is_private_where_that_is_asked_for(client, folder):
    commit_folder(folder, "user/emo", "model", private=True)
    assert client.repos["model", "user/emo"].private


def test_a_public_repository_is_not_taken_for_a_private_one(client, folder):
    commit_folder(folder, "user/emo", "model")
    with pytest.raises(ValueError, match="already exists and is public"):
        commit_folder(folder, "user/emo", "model", private=True)


def test_a_repository_that_holds_something_else_is_not_written_over(client, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "pytorch_model.bin").write_bytes(b"weights")
    (other / "results.json").write_text("{}")
    commit_folder(other, "user/emo", "model")
    del client.repos["model", "user/emo"].files["results.json"]
    with pytest.raises(ValueError, match=r"holds 1 files of something else, such as pytorch_model\.bin"):
        commit_folder(folder, "user/emo", "model")
    assert client.files("user/emo") == {"pytorch_model.bin": b"weights"}


# ---------------------------------------------------------------------------------------------- what the Hub may answer
ROUTES = ("create", "info", "validate-yaml", "preupload", "lfs-batch", "lfs-put", "commit")
ANSWERS = {
    401: "does not accept the token",
    403: "may not write to user/emo",
    409: "changed by somebody else",
    429: "refuses further requests",
    500: "server error",
    "cut": "connection to .* failed",
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("route", ROUTES)
def test_every_refusal_is_a_sentence_and_a_second_try_succeeds(client, folder, route, answer):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    client.fail(route, answer)
    if (route, answer) == ("create", 409):
        pytest.skip("409 says that the repository is there already, which is no error")
    with pytest.raises(OSError, match=ANSWERS[answer]) as error:
        commit_folder(folder, "user/emo", "model")
    assert "\n" not in str(error.value)
    assert client.files("user/emo") == {}
    client.heal()
    commit_folder(folder, "user/emo", "model")
    assert client.files("user/emo").keys() == {"README.md", "results.json", "model.safetensors"}


@pytest.mark.parametrize("route", ["preupload", "lfs-batch", "lfs-put"])
@pytest.mark.parametrize("answer", [429, 500, "cut"])
def test_a_fault_that_passes_is_not_noticed(client, folder, route, answer):
    client.fail(route, answer, times=2)
    commit_folder(folder, "user/emo", "model")
    assert client.files("user/emo").keys() == {"results.json", "model.safetensors"}


def test_a_commit_whose_answer_is_lost_is_whole_and_not_made_twice(client, folder):
    client.fail("commit", "cut after")
    with pytest.raises(ConnectionError, match="as it was, or new and whole"):
        commit_folder(folder, "user/emo", "model")
    client.heal()
    commit_folder(folder, "user/emo", "model")
    assert len(client.repos["model", "user/emo"].commits) == 2


def test_a_push_that_fails_leaves_the_old_model_as_it_was(client, folder):
    commit_folder(folder, "user/emo", "model")
    before = client.files("user/emo")
    (folder / "model.safetensors").write_bytes(bytes(2000))
    for route in ("lfs-put", "commit"):
        client.fail(route, 500)
        with pytest.raises(OSError, match="500"):
            commit_folder(folder, "user/emo", "model")
        assert client.files("user/emo") == before
        client.heal()


def test_a_commit_by_somebody_else_in_between_is_noticed(client, folder, monkeypatch):
    from huggingface_hub import HfApi

    commit_folder(folder, "user/emo", "model")
    (folder / "results.json").write_text('{"new": 1}')
    real = HfApi.preupload_lfs_files

    def meanwhile(*args, **kwargs):
        repo = client.repos["model", "user/emo"]
        repo.commit({**repo.files, "theirs.txt": (b"x", False)})
        return real(*args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
    with pytest.raises(OSError, match="changed by somebody else during the push"):
        commit_folder(folder, "user/emo", "model")
    assert client.files("user/emo")["results.json"] == b"{}"


@pytest.mark.parametrize("name", ["emo", "user/emo/x", "user/e mo", "user/emo..x", "../user/emo", "", "user/-emo"])
def test_what_is_no_name_of_a_repository_is_refused(name):
    with pytest.raises(ValueError, match="is not a repository name; expected user/name"):
        check_repo_id(name)


def test_another_accounts_repository_and_a_token_that_only_reads_are_refused(client, folder):
    with pytest.raises(PermissionError, match="may not write to somebody/emo"):
        commit_folder(folder, "somebody/emo", "model")
    with pytest.raises(PermissionError, match="write access"):
        commit_folder(folder, "user/emo", "model", token=READ_ONLY_TOKEN)


def test_without_a_token_nothing_is_asked_of_the_hub(client, folder, monkeypatch):
    monkeypatch.setattr("ser.publish.hub.stored_token", lambda: None)
    with pytest.raises(PermissionError, match="There is no token"):
        commit_folder(folder, "user/emo", "model")
    assert not client.requests


def test_no_network_is_a_sentence(client, folder, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"connection to http://127\.0\.0\.1:9 failed"):
        commit_folder(folder, "user/emo", "model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1 forbids the network"):
        commit_folder(folder, "user/emo", "model")


def test_the_command_says_in_one_line_what_is_wrong_and_shows_where_only_when_asked(made, tmp_path):
    malformed = ser("push", made.folder, "no name")
    assert (malformed.exit_code, malformed.stderr.count("\n")) == (2, 1)
    assert malformed.stderr.startswith("ser: 'no name' is not a repository name")
    assert isinstance(ser("push", tmp_path / "none", "user/emo", "--debug").exception, FileNotFoundError)


def test_a_wrong_token_is_told_by_the_command_in_one_line(made, client, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    monkeypatch.setattr(pre_push_checks, "check_scores", lambda *arguments: None)
    refused = ser("push", made.folder, "user/emo")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"ser: {client.endpoint} does not accept the token (401)")
    assert client.files("user/emo") == {}


def test_a_failed_check_asks_nothing_of_the_hub(made, client, monkeypatch):
    def refuse(*arguments):
        raise ValueError("not today")

    monkeypatch.setattr(pre_push_checks, "check_scores", refuse)
    with pytest.raises(ValueError, match="not today"):
        push_run(made.folder, "user/emo", made.audio.__getitem__)
    assert not client.requests
