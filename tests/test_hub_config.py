"""Without a network, one line says so at once; what the cache of the Hub holds is used."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.tiny_runs import ROOT, launch
from fakes.tones import write_tones

import ser.hub_config
from ser.hub_config import download_config

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def closed_port(monkeypatch, tmp_path):
    """The Hub's address is a closed port, and nothing was downloaded before."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", NOWHERE + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return constants


def test_no_network_is_said_in_one_line_that_names_the_flag(closed_port):
    with pytest.raises(
        ValueError, match=r"^--model: a/b is neither a folder nor downloaded yet, and there is no network"
    ):
        download_config("a/b", "--model")
    assert closed_port.HF_HUB_OFFLINE  # transformers and huggingface_hub ask no more


def test_no_file_is_asked_for_again_and_again(closed_port, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s for the next attempt"))
    with pytest.raises(ValueError, match="there is no network to"):
        download_config("a/b", "--model")


def test_a_downloaded_file_is_used_without_a_network(closed_port, tmp_path):
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "hub" / "models--a--b" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c" * 40)
    assert Path(download_config("a/b", "--model")).read_text() == "{}"


def test_a_server_that_answers_is_no_missing_network(closed_port, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import httpx

    def refuse(*_, **__):
        raise httpx.HTTPError("500")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    ser.hub_config.use_cache_without_network("a/b")
    assert not closed_port.HF_HUB_OFFLINE


def test_a_run_names_a_missing_backbone_before_it_prepares_the_corpus(closed_port, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("run_ser.load_corpus", lambda _: pytest.fail("the corpus is prepared"))
    manifest = write_tones(tmp_path / "tones")
    assert launch(tmp_path / "run", manifest, "--model_name_or_path", "a/b") == 2
    error = capsys.readouterr().err
    assert error.startswith("run_ser.py: --model_name_or_path: a/b is neither a folder nor downloaded yet")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_answers_at_once(tmp_path):
    environment = {"PATH": "", "HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ser", "predict", "x.wav", "--model", "a/b"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=20)
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1
    assert f"no network to {NOWHERE}; give a folder" in found.stderr
