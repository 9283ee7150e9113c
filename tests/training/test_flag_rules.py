"""Flags that cannot work are refused by name, before any data is loaded; flags that work are left alone."""

import copy
import json

import pytest
import yaml
from fakes.tiny_runs import TINY

from ser.training.arguments import merged_arguments, parse_arguments
from ser.training.fit import _best_epoch
from ser.training.launch import settle_launch

LOSES = [
    ("early_stopping_patience -1", "early_stopping_patience"),
    ("label_smoothing_factor 3", "label_smoothing_factor"),
    ("weight_decay -5", "weight_decay"),
    ("gradient_accumulation_steps 0", "gradient_accumulation_steps"),
    ("per_device_eval_batch_size 0", "per_device_eval_batch_size"),
    ("seed -1", "seed"),
    ("seeds 1,1", "seeds"),
    ("learning_rate nan", "learning_rate"),
    ("num_train_epochs 0", "num_train_epochs"),
    ("num_train_epochs -1", "num_train_epochs"),
    ("classifier_proj_size 0", "classifier_proj_size"),
    ("model_name_or_path /nowhere", "model_name_or_path"),
    ("freeze_layers 3", "freeze_layers"),
    ("focal_gamma 1", "focal_gamma"),
    ("lora_alpha 8", "lora_alpha"),
    ("probe_augmented_copies 2", "probe_augmented_copies"),
    ('augmentations [{"name":"Gain"}] --train_mode probe', "augmentations"),
    ("max_train_seconds 3 --train_mode probe", "max_train_seconds"),
    ("whisper_full_window false", "whisper_full_window"),
    ("layer_lr_decay 0.9 --freeze_base_model true", "layer_lr_decay"),
    ("calibrate true --do_eval false", "calibrate"),
    ("dataloader_drop_last true", "dataloader_drop_last"),
    ("prediction_loss_only true", "prediction_loss_only"),
    ("remove_unused_columns true", "remove_unused_columns"),
    ("torch_compile true --train_mode probe", "torch_compile"),
    ("torch_compile_backend inductor", "torch_compile_backend"),
    ("metric_for_best_model eval_f1", "metric_for_best_model"),
    ("target_columns valence --metric_for_best_model accuracy", "metric_for_best_model"),
    ("report_to wandb", "report_to"),
    ("fp16 true", "fp16"),
    ("num_processes 2", "num_processes"),
]
RENAMES = [
    ("evaluation_strategy epoch", "--eval_strategy"),
    ("group_by_length true", "--train_sampling_strategy group_by_length"),
    ("overwrite_output_dir true", "--overwrite true"),
    ("logging_dir x", "TENSORBOARD_LOGGING_DIR"),
    ("no_cuda true", "--use_cpu true"),
    ("warmup_ratio 0.1", "--warmup_steps"),
]


def parsed(folder, flags="", **config):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(TINY | {"manifest": "clips.csv"} | config))
    words = f"--{flags}".split() if flags else []
    return parse_arguments([str(path), "--output_dir", str(folder / "run"), *words])


@pytest.mark.parametrize(("flags", "name"), LOSES, ids=[flags for flags, _ in LOSES])
def test_a_flag_that_cannot_work_is_refused_by_its_name(flags, name, tmp_path):
    with pytest.raises(ValueError, match=f"--{name}"):
        parsed(tmp_path, flags)
    assert not (tmp_path / "run").exists()


def test_an_output_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"--output_dir: .* is a file"):
        parsed(tmp_path, f"output_dir {tmp_path / 'file' / 'run'}")


def test_layers_are_not_compiled_where_there_is_no_compiler(tmp_path, monkeypatch):
    assert parsed(tmp_path, "torch_compile true")[2].torch_compile is True
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(ValueError, match="compiler; found none of no-such-compiler"):
        parsed(tmp_path, "torch_compile true")


@pytest.mark.parametrize(("flags", "new"), RENAMES)
def test_a_flag_of_an_earlier_transformers_gets_its_new_name(flags, new, tmp_path):
    with pytest.raises(ValueError, match=f"use .*{new}"):
        parsed(tmp_path, flags)
    key, value = flags.split()
    with pytest.raises(ValueError, match=f"use .*{new}"):
        parsed(tmp_path, **{key: value})


def test_a_flag_on_the_command_line_may_take_away_the_effect_of_the_configuration(tmp_path):
    tuned = {"augmentations": [{"name": "Gain"}], "max_train_seconds": 5.0, "layer_lr_decay": 0.9}
    model, *_ = parsed(tmp_path, "train_mode probe", **tuned)
    assert model.train_mode == "probe"
    with pytest.raises(ValueError, match="has no effect here"):
        parsed(tmp_path, **tuned, train_mode="probe")


@pytest.mark.parametrize(
    ("metric", "greater"), [("eval_loss", False), ("loss", False), ("eval_macro_f1", True), ("accuracy", True)]
)
def test_the_direction_follows_the_metric_unless_it_is_given(metric, greater, tmp_path):
    training = parsed(tmp_path, f"metric_for_best_model {metric}")[2]
    assert training.greater_is_better is greater
    assert "greater_is_better" not in merged_arguments(training)
    assert parsed(tmp_path, f"metric_for_best_model {metric} --greater_is_better true")[2].greater_is_better is True


def test_the_last_model_trains_for_the_epochs_of_the_lowest_loss(tmp_path):
    log = [{"eval_loss": loss, "epoch": epoch} for epoch, loss in enumerate([3.0, 1.0, 2.0])]
    (tmp_path / "training_log.json").write_text(json.dumps(log))
    assert _best_epoch(tmp_path, "eval_loss") == 1.0


def test_processes_that_would_train_alone_are_refused(tmp_path, monkeypatch):
    training = parsed(tmp_path)[2]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="Add --use_cpu true"):
        settle_launch(training)


def test_what_the_launcher_set_is_written_down_and_what_contradicts_it_is_refused(tmp_path, monkeypatch):
    training = parsed(tmp_path)[2]
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    launched = copy.copy(training)
    settle_launch(launched)
    assert merged_arguments(launched)["bf16"] is True
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="Give --gradient_accumulation_steps 4"):
        settle_launch(training)
