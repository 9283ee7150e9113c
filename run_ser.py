"""Trains, calibrates, evaluates and reports one run, or one for each fold and seed.

accelerate launch run_ser.py configs/demo.yaml                              # two minutes on a laptop
accelerate launch run_ser.py configs/shemo_hubert_base.yaml --data_dir ShEMO --fold all --seeds 13,21,42
python run_ser.py configs/emodb_tiny.yaml --data_dir emodb --learning_rate 1e-3
"""

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import transformers

from data_prep import load_corpus
from ser.data.audio import corpus_facts, undecoded
from ser.data.batching import Clips
from ser.data.data_arguments import DataArguments
from ser.data.split_files import unused_splits_file
from ser.data.splits import Split, num_folds_of, save_split
from ser.evaluation.diagnosis import diagnose
from ser.evaluation.figures import write_plots
from ser.evaluation.format import format_interval
from ser.evaluation.layers import layer_section, pooled_layers, write_layers
from ser.evaluation.report import write_report
from ser.evaluation.results import build_results
from ser.files import read_json, write_json
from ser.predictions import prediction_table, write_predictions
from ser.publish.card import write_card
from ser.publish.hub import check_repo_id, push_run
from ser.publish.pre_push_checks import audio_of
from ser.run_folder import (
    CHECKPOINTS,
    EXAMPLES,
    FINAL_FIT,
    FINAL_PREDICTIONS,
    FORMAT,
    SPLIT,
    attached_sections,
    claim_run_folder,
    has_model,
    is_finished,
    read_log,
    what_lies_in,
    write_results,
)
from ser.training.arguments import ModelArguments, SERTrainingArguments, parse_arguments
from ser.training.distributed import leave_process_group
from ser.training.fit import Outputs, calibrate_out_of_fold, few_clips, final_job, make_model, whole_split
from ser.training.frozen_head import FrozenHeads
from ser.training.jobs import Job, check_splits, jobs_of, part_clips, split_of
from ser.training.models import check_not_heard
from ser.training.pooled_runs import pooled_context, pooled_predictions
from ser.training.provenance import (
    model_section,
    run_context,
)
from ser.training.temperature import calibrate, reading_of


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
    transformers.utils.logging.disable_progress_bar()  # otherwise one bar for each file of weights
    dataset, whole, jobs = prepare(model_args, data_args, training_args)
    heads = FrozenHeads(dataset, Path(data_args.cache_dir or datasets.config.HF_DATASETS_CACHE))
    if training_args.push_to_hub:
        check_push(training_args, jobs)
    if jobs[0].folder == whole.folder:
        if is_finished(whole.folder) and not training_args.overwrite:
            raise ValueError(f"--output_dir: {whole.folder} holds a finished run. --overwrite true replaces it.")
        run_job(jobs[0], dataset, heads)
        push(whole, dataset)
        return
    with training_args.main_process_first(desc="claim of the output folder"):
        claim_run_folder(whole.folder, whole.arguments(), training_args.overwrite and training_args.should_save)
    for number, job in enumerate(jobs, start=1):
        print(f"run {number} of {len(jobs)}: seed {job.seed}, fold {job.fold}", flush=True)
        if is_finished(job.folder):
            print(f"{job.folder} is finished; it is not trained again.", flush=True)
        else:
            run_job(job, dataset, heads)
    folders = [job.folder for job in jobs]
    if training_args.final_fit:
        run_final(final_job(whole, folders), dataset, heads, folders)
    if training_args.should_save:
        table = write_predictions(pooled_predictions(folders), whole.folder)
        layers = pooled_layers(folders)
        write_layers(layers, whole.folder)
        context = pooled_context(folders, whole.arguments(), dataset)
        context["layers"] = layer_section(layers, whole.labels(dataset))
        if (whole.folder / FINAL_FIT).is_file():
            context["final_fit"] = read_json(whole.folder / FINAL_FIT)
            context["model"] = context["final_fit"].pop("model")
        finish(whole, table, dataset, {**context, **attached_sections(whole.folder)})
    if training_args.final_fit:
        push(whole, dataset)


def prepare(
    model_args: ModelArguments, data_args: DataArguments, training_args: SERTrainingArguments
) -> tuple[Any, Job, list[Job]]:
    """Returns the corpus, the whole job and its single runs; the split of every run was made and checked."""
    with training_args.main_process_first(desc="preparation of the corpus"):
        dataset = load_corpus(data_args)
        whole = Job(model_args, data_args, training_args, Path(training_args.output_dir), training_args.seed, -1)
        jobs = jobs_of(whole, dataset)
        check_splits(jobs, dataset)
    if unused := unused_splits_file(dataset, data_args.protocol, data_args.splits_file):
        print(unused, flush=True)
    return dataset, whole, jobs


def check_push(args: SERTrainingArguments, jobs: list[Job]) -> None:
    """Refuses a push that could not be made, before hours of training."""
    if args.hub_model_id is None:
        raise ValueError("--push_to_hub: give the repository with --hub_model_id user/name.")
    check_repo_id(args.hub_model_id)
    if len(jobs) > 1 and not args.final_fit:
        raise ValueError(
            "--push_to_hub: several runs are asked for. Push the one you choose (ser push RUN user/name), or one model "
            "of all clips (--final_fit true)."
        )


def push(whole: Job, dataset: Any) -> None:
    """Uploads the model of the output folder to the Hub, if the arguments ask for it."""
    args = whole.training
    if args.push_to_hub and args.should_save:
        options = {"private": bool(args.hub_private_repo), "token": args.hub_token}
        push_run(whole.folder, args.hub_model_id, audio_of(dataset), **options)


def run_job(job: Job, dataset: Any, heads: FrozenHeads) -> None:
    """Trains, calibrates and scores one model, and writes its folder; `results.json` comes last."""
    args, labels = job.training_arguments(), job.labels(dataset)
    split = split_of(job, dataset)
    if args.do_train:
        check_not_heard(job, split, corpus_facts(dataset)["name"])
    transformers.set_seed(job.seed)
    with args.main_process_first(desc="claim of the output folder"):
        claim_run_folder(job.folder, job.arguments(), job.training.overwrite and args.should_save)
    started = time.monotonic()
    parts = {name: part_clips(job, dataset, split, name) for name in ("train", "dev", "test")}
    model, feature_extractor, outputs_of, facts = make_model(job, labels, split, parts, heads)
    trained = time.monotonic()
    tables, calibration = predict(job, model, outputs_of, parts, labels)
    layers = heads.layers_of(job, split)
    sections = {"model": model_section(model, job.model.model_name_or_path, facts["trainable"])}
    sections |= {"head": facts["head"], "start": facts["start"], "layers": layer_section(layers, labels)}
    seconds = {"train": trained - started, "predict": time.monotonic() - trained}
    outcome = {"calibration": calibration, "seconds": seconds}
    num_folds = num_folds_of(job.data.protocol, dataset, job.data.num_folds)
    context = run_context(split, dataset, num_folds, job.arguments(), sections, outcome)
    if args.should_save:
        save_split(split, job.folder / SPLIT, dataset)
        write_layers(layers, job.folder)
        if args.do_train:
            save_model(model, feature_extractor, job.folder)
            write_examples(job, dataset, split)
        if tables:
            finish(job, write_predictions(tables, job.folder), dataset, context)
        else:
            write_results({"format": FORMAT, "labels": labels, **context}, job.folder)
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)


def run_final(job: Job, dataset: Any, heads: FrozenHeads, folders: list[Path]) -> None:
    """Trains one model on all clips and saves it beside the pooled results; the folds calibrate it."""
    if (job.folder / FINAL_FIT).is_file():
        return
    print("final fit: all clips", flush=True)
    args = job.training_arguments()
    split = whole_split(dataset, job)
    transformers.set_seed(job.seed)
    parts = {name: part_clips(job, dataset, split, name) for name in ("train", "dev")}
    model, feature_extractor, outputs_of, facts = make_model(job, job.labels(dataset), split, parts, heads)
    calibration = None
    if job.model.calibrate and not job.data.target_columns:
        calibration = calibrate_out_of_fold(model, folders, job.labels(dataset), job.model)
    clips = part_clips(job, dataset, replace(split, test=few_clips(dataset)), "test")
    run = {"split": "train", "seed": job.seed, "fold": job.fold}
    said = prediction_table(clips.rows, *outputs_of(clips), job.labels(dataset), **run)
    if args.should_save:
        save_model(model, feature_extractor, job.folder)
        write_examples(job, dataset, split)
        write_predictions([said], job.folder, FINAL_PREDICTIONS)
        section = model_section(model, job.model.model_name_or_path, facts.pop("trainable"))
        content = {"clips": len(dataset), **(calibration or {}), "model": section, **facts}
        write_json(content, job.folder / FINAL_FIT)
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)


def predict(
    job: Job, model: Any, outputs_of: Outputs, parts: dict[str, Clips], labels: list[str]
) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Scores dev, calibrates a newly trained model on it, then scores test once."""
    tables, args = [], job.training
    calibration = {"reading": reading_of(job.model)} if args.do_train else {}
    wanted = [name for name, asked in (("dev", args.do_eval), ("test", args.do_predict)) if asked]
    for name in wanted:
        logits, truth = outputs_of(parts[name])
        if name == "dev" and args.do_train and job.model.calibrate and truth.ndim == 1:
            logits, calibration = calibrate(model, logits, truth, labels, job.model)
        run = {"split": name, "seed": job.seed, "fold": job.fold}
        tables.append(prediction_table(parts[name].rows, logits, truth, labels, **run))
    return tables, calibration


def save_model(model: Any, feature_extractor: Any, folder: Path) -> None:
    """Writes what `pipeline("audio-classification")` loads."""
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)


def finish(job: Job, table: pd.DataFrame, dataset: Any, context: dict[str, Any]) -> None:
    """Computes the results from the predictions, then the plots and the report from the results.

    One of several runs gets results and a card only; `ser report` writes its report on demand.
    """
    results = build_results(table, job.labels(dataset), context)
    write_results(results, job.folder)
    if job.is_one_of_many:
        if has_model(job.folder):
            write_card(job.folder)
        print_scores(results, read_log(job.folder))
        return
    write_plots(job.folder)
    rows = {clip: row for row, clip in enumerate(dataset["id"][:])}
    stored = undecoded(dataset)
    if has_model(job.folder):
        write_card(job.folder)
    write_report(job.folder, audio=lambda clip: stored[rows[clip]]["audio"]["bytes"])
    print_scores(results, read_log(job.folder))
    print(f"{job.folder}: {what_lies_in(job.folder)}", flush=True)


def write_examples(job: Job, dataset: Any, split: Split, count: int = 3) -> None:
    """Copies a few test clips into the folder as examples; only synthetic clips, because recordings have owners."""
    if job.data.corpus != "synthetic":
        return
    folder = job.folder / EXAMPLES
    folder.mkdir(exist_ok=True)
    chosen = set(split.test[:: max(1, len(split.test) // count)][:count])
    for row in undecoded(dataset.filter(lambda clip: clip in chosen, input_columns="id")):
        (folder / f"{row['id']}.wav").write_bytes(row["audio"]["bytes"])


def print_scores(results: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Prints problems that were found, the scores of each run, and the pooled scores with their intervals."""
    if found := diagnose(results, log):
        print(found.text)
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
