"""Trains, calibrates, evaluates and reports one run, or one for each fold and seed.

accelerate launch run_ser.py configs/demo.yaml                              # two minutes on a laptop
accelerate launch run_ser.py configs/shemo_hubert_base.yaml --data_dir ShEMO --fold all --seeds 13,21,42
python run_ser.py configs/emodb_tiny.yaml --data_dir emodb --learning_rate 1e-3
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedConfig

from data_prep import load_corpus
from ser.data.arguments import DataArguments
from ser.data.audio import corpus_facts, undecoded
from ser.data.audit import audit, what_is_wrong
from ser.data.augment import build_augmentation
from ser.data.batching import Clips, Collator
from ser.data.splits import Split, load_split, num_folds_of, save_split
from ser.evaluation.figures import write_plots
from ser.evaluation.format import format_interval
from ser.evaluation.report import write_report
from ser.evaluation.results import FORMAT, build_results, write_json_atomic
from ser.training.arguments import ModelArguments, SERTrainingArguments, parse_arguments
from ser.training.calibrate import calibrate, reading_of
from ser.training.context import control_words, corpus_section, model_section, protocol_section, versions
from ser.training.freezing import freeze
from ser.training.jobs import Job, clips_of, jobs_of, split_of, targets_of
from ser.training.lora import merge_lora
from ser.training.pooling import pooled_context, pooled_predictions
from ser.training.predictions import prediction_table, write_predictions
from ser.training.probe import Probe, Statistics, corpus_statistics, stack
from ser.training.processes import leave_process_group
from ser.training.runs import CHECKPOINTS, claim_folder, is_finished, last_checkpoint
from ser.training.trainer import SERTrainer
from ser.use.card import write_card
from ser.use.gate import audio_of
from ser.use.hub import check_repo_id, push_run
from ser_model import WAVE_BACKBONES, SERConfig, SERForAudioClassification, new_feature_extractor


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line asks for; the exit code is 2 when that cannot be done."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        run_jobs(*parse_arguments(argv))
        leave_process_group()
    except (ValueError, OSError, ImportError) as error:
        if any(flag.startswith("--debug_errors") for flag in argv):
            raise
        print(f"run_ser.py: {error}\n(--debug_errors true shows where)", file=sys.stderr)
        return 2
    return 0


def run_jobs(model_args: ModelArguments, data_args: DataArguments, training_args: SERTrainingArguments) -> None:
    """Prepares the corpus once and makes every run that was asked for."""
    with training_args.main_process_first(desc="preparation of the corpus"):
        dataset = load_corpus(data_args)
    whole = Job(model_args, data_args, training_args, Path(training_args.output_dir), training_args.seed, -1)
    jobs = jobs_of(whole, dataset)
    if training_args.push_to_hub:
        check_push(training_args, jobs)
    if jobs[0].folder == whole.folder:
        if is_finished(whole.folder) and not training_args.overwrite:
            raise ValueError(f"--output_dir: {whole.folder} holds a finished run. --overwrite true replaces it.")
        run_job(jobs[0], dataset)
        if training_args.push_to_hub and training_args.should_save:
            options = {"private": bool(training_args.hub_private_repo), "token": training_args.hub_token}
            push_run(whole.folder, training_args.hub_model_id, audio_of(dataset), **options)
        return
    with training_args.main_process_first(desc="claim of the output folder"):
        claim_folder(whole.folder, whole.arguments(), training_args.overwrite and training_args.should_save)
    for number, job in enumerate(jobs, start=1):
        print(f"run {number} of {len(jobs)}: seed {job.seed}, fold {job.fold}", flush=True)
        if is_finished(job.folder):
            print(f"{job.folder} is finished; it is not trained again.", flush=True)
        else:
            run_job(job, dataset)
    if training_args.should_save:
        folders = [job.folder for job in jobs]
        table = write_predictions(pooled_predictions(folders), whole.folder / "predictions.parquet")
        finish(whole, table, dataset, pooled_context(folders, whole.arguments(), dataset))


def check_push(args: SERTrainingArguments, jobs: list[Job]) -> None:
    """Refuses a push that could not be made, before hours of training."""
    if args.hub_model_id is None:
        raise ValueError("--push_to_hub: give the repository with --hub_model_id user/name.")
    check_repo_id(args.hub_model_id)
    if len(jobs) > 1:
        raise ValueError("--push_to_hub: several runs are asked for. Push the one you choose: ser push RUN user/name.")


def run_job(job: Job, dataset: Any) -> None:
    """Trains, calibrates and scores one model, and writes its folder; `results.json` comes last."""
    args, labels = job.training_arguments(), job.labels(dataset)
    split = split_of(job, dataset)
    transformers.set_seed(job.seed)
    model, feature_extractor = build_model(job, labels) if args.do_train else load_trained(job, split)
    trainable = freeze(model, job.model) if args.do_train else 0
    collator = Collator(feature_extractor)
    parts = {name: clips_of(job, dataset, split, name) for name in ("train", "dev", "test")}
    with args.main_process_first(desc="claim of the output folder"):
        claim_folder(job.folder, job.arguments(), job.training.overwrite and args.should_save)
    started, trained_model = time.monotonic(), model
    if args.do_train and job.model.train_mode == "probe":
        with args.main_process_first(desc="statistics of the backbone"):
            trained_model, collator, parts = probe_of(job, model, collator, dataset, parts)
    parts_to_train_on = {"train_dataset": parts["train"], "eval_dataset": parts["dev"]}
    trainer = SERTrainer(trained_model, args, job.model, labels, collator, **parts_to_train_on)
    if args.do_train:
        trainer.train(resume_from_checkpoint=last_checkpoint(job.folder))
        if job.model.lora_rank:
            merge_lora(model)
    trained = time.monotonic()
    tables, calibration = predict(job, trainer, parts)
    num_folds = num_folds_of(job.data.protocol, dataset, job.data.num_folds)
    context = {
        "protocol": protocol_section(split, num_folds, [job.seed], [job.fold])
        | {"what_is_wrong": [*what_is_wrong(split, dataset), *control_words(job.arguments())]},
        "corpus": corpus_section(dataset, labels),
        "label_source": corpus_facts(dataset).get("label_source"),
        "model": model_section(model, job.model.model_name_or_path, trainable),
        "audit": audit(split, dataset, near_identical=False),
        "calibration": calibration,
        "seconds": {"train": trained - started, "predict": time.monotonic() - trained},
        "versions": versions(),
        "config": job.arguments(),
    }
    if args.should_save:
        save_split(split, job.folder / "splits.json", dataset)
        write_json_atomic(trainer.state.log_history, job.folder / "training_log.json")
        if args.do_train:
            save_model(model, feature_extractor, job.folder)
            write_examples(job, dataset, split)
        if tables:
            finish(job, write_predictions(tables, job.folder / "predictions.parquet"), dataset, context)
        else:
            write_json_atomic({"format": FORMAT, "labels": labels, **context}, job.folder / "results.json")
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)


def build_model(job: Job, labels: list[str]) -> tuple[Any, Any]:
    """A model to train and the feature extractor that goes with it."""
    arguments, backbone = job.model, job.model.parsed_backbone_config()
    config: dict[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    if job.data.target_columns:
        config["problem_type"] = "regression"
    name = arguments.model_name_or_path
    if name is None and not backbone:
        raise ValueError("--model_name_or_path: no backbone is given; name one, or make one with backbone_config.")
    if name is None:
        extractor = new_feature_extractor(AutoConfig.for_model(**{"model_type": "hubert", **backbone}))
    else:
        extractor = AutoFeatureExtractor.from_pretrained(name)
        extractor.return_attention_mask = True  # without a mask, padding is taken for speech
    if arguments.head == "stock":
        return stock_model(arguments, config), extractor
    kept = ("pooling", "layer_mix", "classifier_proj_size", "final_dropout", "whisper_full_window")
    config |= {key: getattr(arguments, key) for key in kept}
    attention = arguments.attn_implementation
    if name is None:
        return SERForAudioClassification(
            SERConfig(backbone_config=backbone, attn_implementation=attention, **config)
        ), extractor
    return SERForAudioClassification.from_backbone(name, attention, backbone_config=backbone, **config), extractor


def stock_model(arguments: ModelArguments, config: dict[str, Any]) -> Any:
    """transformers' own `...ForSequenceClassification`, which loads without `trust_remote_code`."""
    overrides = {**arguments.parsed_backbone_config(), **config, "classifier_proj_size": arguments.classifier_proj_size}
    overrides["use_weighted_layer_sum"] = arguments.layer_mix == "weighted"
    name = arguments.model_name_or_path
    kind = AutoConfig.for_model(**overrides) if name is None else AutoConfig.from_pretrained(name)
    if kind.model_type not in WAVE_BACKBONES:
        raise ValueError(f"--head stock: {kind.model_type} is not one of {', '.join(WAVE_BACKBONES)}; use --head ser.")
    if name is None:
        return AutoModelForAudioClassification.from_config(kind)
    return AutoModelForAudioClassification.from_pretrained(name, dtype=torch.float32, **overrides)


def load_trained(job: Job, split: Split) -> tuple[Any, Any]:
    """A trained model, on the split that it was trained with."""
    name = job.model.model_name_or_path
    if name is None:
        raise ValueError("--model_name_or_path: with --do_train false, it names the trained model to score.")
    own_split = Path(name) / "splits.json"
    if own_split.is_file() and load_split(own_split).sha256 != split.sha256:
        raise ValueError(
            f"{own_split}: {name} was trained on another split (protocol {load_split(own_split).protocol}, fold "
            f"{load_split(own_split).fold}); part of this test set may have been in its training. Ask for the same one."
        )
    # The class is ours, installed here: no code that lies in the folder is run.
    is_ours = PreTrainedConfig.get_config_dict(name)[0].get("model_type") == SERConfig.model_type
    kind = SERForAudioClassification if is_ours else AutoModelForAudioClassification
    return kind.from_pretrained(name), AutoFeatureExtractor.from_pretrained(name)


def probe_of(job: Job, model: Any, collator: Collator, dataset: Any, parts: dict[str, Clips]) -> tuple[Any, Any, Any]:
    """The head alone, in the place of the model, and cached statistics in the place of clips."""
    targets = targets_of(job, dataset)
    clips = Clips(dataset, targets, build_augmentation(job.data.augmentations), job.data.split_seed)
    cache = Path(job.data.cache_dir or datasets.config.HF_DATASETS_CACHE)
    tables = corpus_statistics(clips, model, collator, cache, job.model.probe_augmented_copies)
    place = {clip: row for row, clip in enumerate(clips.ids)}
    statistics = {name: Statistics(part, tables, [place[i] for i in part.ids]) for name, part in parts.items()}
    return Probe(model), stack, statistics


def predict(job: Job, trainer: SERTrainer, parts: dict[str, Clips]) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Scores dev, calibrates on it when the model was trained here, then scores test, once."""
    tables, calibration, args = [], {"reading": reading_of(job.model)} if trainer.args.do_train else {}, trainer.args
    wanted = [name for name, asked in (("dev", args.do_eval), ("test", args.do_predict)) if asked]
    for name in wanted:
        output = trainer.predict(parts[name], metric_key_prefix=name)
        logits = output.predictions
        if name == "dev" and args.do_train and job.model.calibrate and not trainer.is_regression:
            logits, calibration = calibrate(trainer.model, logits, output.label_ids, trainer.labels, job.model)
        run = {"split": name, "seed": job.seed, "fold": job.fold}
        tables.append(prediction_table(parts[name].rows, logits, output.label_ids, trainer.labels, **run))
    return tables, calibration


def save_model(model: Any, feature_extractor: Any, folder: Path) -> None:
    """Writes what `pipeline("audio-classification")` loads."""
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)


def finish(job: Job, table: pd.DataFrame, dataset: Any, context: dict[str, Any]) -> None:
    """Computes the results from the predictions, then the plots and the page from the results."""
    results = build_results(table, job.labels(dataset), context)
    write_json_atomic(results, job.folder / "results.json")
    write_plots(job.folder)
    rows = {clip: row for row, clip in enumerate(dataset["id"])}
    stored = undecoded(dataset)
    if (job.folder / "config.json").is_file():
        write_card(job.folder)
    write_report(job.folder, audio=lambda clip: stored[rows[clip]]["audio"]["bytes"])
    print_scores(results)
    print(f"{job.folder}: model, results.json, report.html", flush=True)


def write_examples(job: Job, dataset: Any, split: Split, count: int = 3) -> None:
    """Puts a few test clips beside the model, to try it on; only synthetic ones: recordings are not ours to copy."""
    if job.data.corpus != "synthetic":
        return
    folder = job.folder / "examples"
    folder.mkdir(exist_ok=True)
    chosen = set(split.test[:: max(1, len(split.test) // count)][:count])
    for row in undecoded(dataset.filter(lambda clip: clip in chosen, input_columns="id")):
        (folder / f"{row['id']}.wav").write_bytes(row["audio"]["bytes"])


def print_scores(results: dict[str, Any]) -> None:
    """Prints one line a run, and the whole with its intervals."""
    part = "test" if "test" in results else "dev"
    names = ("ccc",) if results["task"] == "regression" else ("uar", "accuracy", "macro_f1")
    for run in results["per_run"] if len(results["per_run"]) > 1 else []:
        print(f"seed {run['seed']} fold {run['fold']}: " + "  ".join(f"{n} {run[n]:.3f}" for n in names))
    scores = results[part]
    print(
        f"{part}, {scores['n']} clips: "
        + "  ".join(f"{name} {format_interval(scores[name], scores['intervals'].get(name))}" for name in names)
    )


if __name__ == "__main__":
    sys.exit(main())
