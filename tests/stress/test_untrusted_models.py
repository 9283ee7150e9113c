"""Models of strangers: weights come from safetensors only, and code that lies beside them is never run."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from fakes.tiny import SMALL, feature_extractor, tiny_model
from transformers import HubertConfig, HubertModel

from ser.inference.loading import load_pipeline
from ser.training.jobs import Job
from ser.training.models import new_model, trained_model
from ser_model import SERForAudioClassification

ROOT = Path(__file__).parents[2]
# Its import leaves a file; nothing here may import it.
CODE = "from pathlib import Path\nPath(__file__).with_name('was_run').touch()\nclass Config: pass\nclass Model: pass\n"
AUTO_MAP = {
    "AutoConfig": "stranger.Config",
    "AutoModel": "stranger.Model",
    "AutoModelForAudioClassification": "stranger.Model",
    "AutoFeatureExtractor": "stranger.Model",
}
# Where transformers decides whether code of a model is run. Of these calls, each one must say so.
LOADERS = {"AutoConfig", "AutoModel", "AutoModelForAudioClassification", "AutoFeatureExtractor", "AutoProcessor"}


@pytest.fixture
def backbone(tmp_path) -> Path:
    """A benign backbone in a folder."""
    torch.manual_seed(0)
    HubertModel(HubertConfig(**SMALL)).save_pretrained(tmp_path / "backbone")
    feature_extractor().save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def job_of(folder: Path, tmp_path: Path, *flags: str) -> Job:
    from ser.training.arguments import parse_arguments

    given = ["--corpus", "emodb", "--output_dir", str(tmp_path / "run"), "--model_name_or_path", str(folder), *flags]
    model, data, training = parse_arguments(given)
    return Job(model, data, training, tmp_path / "run", 1, 0)


def pickled(folder: Path, keep: str | None = None) -> Path:
    """The same weights as a pickled file, as older models have them."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / keep) if keep else (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("flags", [(), ("--head", "stock")], ids=["ours", "stock"])
@pytest.mark.parametrize("other", [None, "other.safetensors"])
def test_a_backbone_of_pickled_weights_is_refused_and_the_way_to_convert_it_works(backbone, tmp_path, other, flags):
    assert new_model(job_of(backbone, tmp_path, *flags), ["a", "b"])
    pickled(backbone, other)
    with pytest.raises(ValueError, match=f"{backbone}.*(pickled file|safetensors)") as error:
        new_model(job_of(backbone, tmp_path, *flags), ["a", "b"])
    if other is None:
        from transformers import AutoModel

        said = str(error.value)
        assert "AutoModel.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')" in said
        AutoModel.from_pretrained(backbone).save_pretrained(tmp_path / "converted")
        shutil.copy(backbone / "preprocessor_config.json", tmp_path / "converted")
        assert new_model(job_of(tmp_path / "converted", tmp_path, *flags), ["a", "b"])


def test_a_trained_model_of_pickled_weights_is_refused(tmp_path):
    folder = pickled(tiny_model(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"cannot be loaded.*model\.safetensors"):
        load_pipeline(str(folder))
    with pytest.raises(ValueError, match=r"cannot be loaded.*model\.safetensors"):
        new_model(job_of(folder, tmp_path), ["a", "b"])
    with pytest.raises(ValueError, match=r"cannot be loaded.*model\.safetensors"):
        trained_model(job_of(folder, tmp_path), None, ["a", "b"], "x")


def with_code(folder: Path) -> Path:
    """Makes a folder ask transformers to run a file in it, in each of its configurations."""
    (folder / "stranger.py").write_text(CODE)
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"auto_map": AUTO_MAP, "model_type": "stranger"} if name == "config.json" else {"auto_map": AUTO_MAP}
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def nobody_answers(monkeypatch):
    """transformers asks on the terminal whether to run code, where it may."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked to run code"))


@pytest.mark.usefixtures("nobody_answers")
@pytest.mark.parametrize("door", ["backbone", "stock", "trained", "predict"])
def test_code_in_the_folder_of_a_model_is_never_run(backbone, tmp_path, door):
    folder = with_code(backbone)
    doors = {
        "backbone": lambda: new_model(job_of(folder, tmp_path), ["a", "b"]),
        "stock": lambda: new_model(job_of(folder, tmp_path, "--head", "stock"), ["a", "b"]),
        "trained": lambda: trained_model(job_of(folder, tmp_path), None, ["a", "b"], "x"),
        "predict": lambda: load_pipeline(str(folder)),
    }
    with pytest.raises(ValueError, match=str(folder)) as error:
        doors[door]()
    assert "\n" not in str(error.value)
    assert not (folder / "was_run").exists()


@pytest.mark.usefixtures("nobody_answers")
def test_code_in_the_folder_of_our_own_model_is_not_run_either(tmp_path):
    folder = tiny_model(tmp_path / "model")
    (folder / "ser_model.py").write_text(CODE)
    assert isinstance(load_pipeline(str(folder)).model, SERForAudioClassification)
    labels = list(load_pipeline(str(folder)).model.config.id2label.values())
    assert isinstance(new_model(job_of(folder, tmp_path), labels)[0], SERForAudioClassification)
    assert not (folder / "was_run").exists()


def test_every_loader_says_that_no_code_of_the_model_is_run():
    silent, on = [], []
    for path in [*ROOT.glob("*.py"), *(ROOT / "ser").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            said = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if said.get("trust_remote_code", "False") != "False":
                on.append(f"{path.name}:{call.lineno}")
            owner, _, method = name.partition(".")
            if (
                method == "from_pretrained"
                and owner in LOADERS
                and "trust_remote_code" not in said
                and None not in said
            ):
                silent.append(f"{path.name}:{call.lineno}")
    assert not on
    assert not silent
