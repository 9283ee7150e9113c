"""A tiny model and some recordings, for all tests of predictions."""

import shutil
from pathlib import Path

import pytest
from fakes.cli_runs import record
from fakes.tiny import tiny_model

from ser.inference.loading import load_pipeline


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classify(model_dir):
    return load_pipeline(str(model_dir))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def clips(recorded, tmp_path) -> Path:
    return shutil.copytree(recorded, tmp_path / "clips")
