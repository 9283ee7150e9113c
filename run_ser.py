"""Trains, calibrates, evaluates and reports one run, or one for each fold and seed.

python run_ser.py configs/demo.yaml                              # two minutes on a laptop
python run_ser.py configs/shemo_hubert_base.yaml --data_dir ShEMO --fold all --seeds 13,21,42
accelerate launch --config_file configs/accelerate/many_gpus.yaml run_ser.py configs/shemo_hubert_base.yaml
"""

import sys

from ser.imports import after_imports, before_imports
from ser.training.early import one_line, start

if __name__ == "__main__":
    start(sys.argv[1:])  # before the imports below, which take seconds
    before_imports()

import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import transformers

from data_prep import load_corpus
from ser.data.audio import corpus_facts, undecoded
from ser.data.data_arguments import DataArguments
from ser.data.split_files import unused_splits_file
from ser.data.splits import num_folds_of, save_split
from ser.evaluation.figures import write_plots
from ser.evaluation.layers import layer_section, pooled_layers, write_layers
from ser.evaluation.report import write_report
from ser.evaluation.results import build_results
from ser.exploration.data_page import write_data_page
from ser.files import held_by_this_process, read_json, write_json
from ser.freed_memory import keep_freed_memory
from ser.predictions import prediction_table, write_predictions
from ser.publish.card import write_card
from ser.publish.hub import check_push, push_run
from ser.publish.pre_push_checks import audio_of
from ser.run_folder import (
    CHECKPOINTS,
    FINAL_FIT,
    FINAL_PREDICTIONS,
    FORMAT,
    LOCK,
    PREDICTIONS,
    RESULTS,
    SPLIT,
    attached_sections,
    begin,
    claim_run_folder,
    has_model,
    is_finished,
    mark_finished,
    read_log,
    read_results,
    release_run_folder,
    what_lies_in,
    write_results,
)
from ser.training.arguments import ModelArguments, SERTrainingArguments, parse_arguments
from ser.training.checkpoints import check_resume_flag
from ser.training.disk import disk_full_words
from ser.training.distributed import leave_process_group
from ser.training.fit import calibrate_out_of_fold, few_clips, final_job, make_model, whole_split
from ser.training.frozen_head import FrozenHeads
from ser.training.jobs import Job, check_splits, jobs_of, part_clips, split_of
from ser.training.models import check_backbone_is_there, check_not_heard
from ser.training.outcome import add_scores_by_snr, predict, print_scores, save_model, write_examples
from ser.training.pooled_runs import pooled_context, pooled_predictions
from ser.training.provenance import encoder_name, model_section, run_context
from ser.training.signals import Stopped, stop_in_order
from ser.training.trackers import report_scores, tracked_run


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line asks for.

    Returns:
        The exit code: 0; 2 when that cannot be done; 128 and the number of the signal that stopped the run.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        with stop_in_order():
            keep_freed_memory()
            run_jobs(*parse_arguments(argv))
            leave_process_group()
    except Stopped as stopped:
        print(f"run_ser.py: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    except Exception as error:
        words = disk_full_words(error, argv)
        is_expected = words is not None or isinstance(error, ValueError | OSError | ImportError)
        if not is_expected or any(flag.startswith("--debug_errors") for flag in argv):
            raise
        print(f"run_ser.py: {one_line(words or error)} (--debug_errors true shows where)", file=sys.stderr)
        return 2
    return 0


def run_jobs(model_args: ModelArguments, data_args: DataArguments, training_args: SERTrainingArguments) -> None:
    """Prepares the corpus once and makes every run that was asked for; no second process may work in the folder."""
    transformers.utils.logging.disable_progress_bar()  # otherwise one bar for each file of weights
    folder = Path(training_args.output_dir)
    lock = held_by_this_process(folder / LOCK, f"--output_dir: {folder}")
    with lock if training_args.should_save else nullcontext():
        _run_jobs(*prepare(model_args, data_args, training_args))


def _run_jobs(dataset: Any, whole: Job, jobs: list[Job]) -> None:
    args = whole.training
    heads = FrozenHeads(dataset, Path(whole.data.cache_dir or datasets.config.HF_DATASETS_CACHE))
    check_resume_flag(args.resume_from_checkpoint, len(jobs))
    if args.push_to_hub:
        check_push(args, len(jobs))
    if jobs[0].folder == whole.folder:
        if is_finished(whole.folder) and not args.overwrite:
            raise ValueError(f"--output_dir: {whole.folder} holds a finished run. --overwrite true replaces it.")
        run_job(jobs[0], dataset, heads)
        push(whole, dataset)
        return
    with args.main_process_first(desc="claim of the output folder"):
        goes_on = claim_run_folder(whole.folder, whole.arguments(), args.overwrite and args.should_save)
    try:
        for number, job in enumerate(jobs, start=1):
            print(f"run {number} of {len(jobs)}: seed {job.seed}, fold {job.fold}", flush=True)
            if is_finished(job.folder):
                print(f"{job.folder} is finished; it is not trained again.", flush=True)
            else:
                run_job(job, dataset, heads)
    except BaseException:
        if args.should_save and not goes_on:
            release_run_folder(whole.folder)
        raise
    folders = [job.folder for job in jobs]
    if args.final_fit:
        run_final(final_job(whole, folders), dataset, heads, folders)
    if args.should_save:
        pool(whole, dataset, folders)
    if args.final_fit:
        push(whole, dataset)


def pool(whole: Job, dataset: Any, folders: list[Path]) -> None:
    """Writes the pooled predictions, results and report of several runs."""
    begin(whole.folder)
    table = write_predictions(pooled_predictions(folders), whole.folder)
    write_layers(layers := pooled_layers(folders), whole.folder)
    context = pooled_context(folders, whole.arguments(), dataset)
    context["layers"] = layer_section(layers, whole.labels(dataset))
    if (whole.folder / FINAL_FIT).is_file():
        context["final_fit"] = read_json(whole.folder / FINAL_FIT)
        context["model"] = context["final_fit"].pop("model")
    results = build_results(table, whole.labels(dataset), {**context, **attached_sections(whole.folder)})
    write_results(results, whole.folder)
    finish(whole, results, dataset)


def prepare(
    model_args: ModelArguments, data_args: DataArguments, training_args: SERTrainingArguments
) -> tuple[Any, Job, list[Job]]:
    """Returns the corpus, the whole job and its single runs; the split of every run was made and checked."""
    with training_args.main_process_first(desc="preparation of the corpus"):
        check_backbone_is_there(model_args.model_name_or_path)
        dataset = load_corpus(data_args)
        whole = Job(model_args, data_args, training_args, Path(training_args.output_dir), training_args.seed, -1)
        jobs = jobs_of(whole, dataset)
        check_splits(jobs, dataset)
    if unused := unused_splits_file(dataset, data_args.protocol, data_args.splits_file):
        print(unused, flush=True)
    return dataset, whole, jobs


def push(whole: Job, dataset: Any) -> None:
    """Uploads the model of the output folder to the Hub, if the arguments ask for it."""
    args = whole.training
    if args.push_to_hub and args.should_save:
        options = {"private": bool(args.hub_private_repo), "token": args.hub_token}
        push_run(whole.folder, args.hub_model_id, audio_of(dataset), **options)


def run_job(job: Job, dataset: Any, heads: FrozenHeads) -> None:
    """Trains, calibrates and scores one model and writes its folder; a run that has its results is only finished."""
    args = job.training_arguments()
    with args.main_process_first(desc="claim of the output folder"):
        goes_on = claim_run_folder(job.folder, job.arguments(), job.training.overwrite and args.should_save)
        has_results = goes_on and (job.folder / RESULTS).is_file()
    try:
        if not has_results:
            with tracked_run(args):
                results = make_results(job, dataset, heads)
        elif args.should_save:
            print(f"{job.folder} has its results; what is missing is written now.", flush=True)
            results = read_results(job.folder)
        if args.should_save:
            finish(job, results, dataset)
    except BaseException:
        if args.should_save and not goes_on:
            release_run_folder(job.folder)
        raise


def make_results(job: Job, dataset: Any, heads: FrozenHeads) -> dict[str, Any]:
    """Trains, calibrates and scores one model; writes model, split, predictions and, after them, the results."""
    args, labels = job.training_arguments(), job.labels(dataset)
    split = split_of(job, dataset)
    if args.do_train:
        check_not_heard(job, split, corpus_facts(dataset)["name"])
    transformers.set_seed(job.seed)
    if args.should_save:
        begin(job.folder)
    started = time.monotonic()
    parts = {name: part_clips(job, dataset, split, name) for name in ("train", "dev", "test")}
    model, feature_extractor, outputs_of, facts = make_model(job, labels, split, parts, heads)
    trained = time.monotonic()
    tables, calibration = predict(job, model, outputs_of, parts, labels)
    sections: dict[str, Any] = {"model": model_section(model, job.model.model_name_or_path, facts["trainable"])}
    sections |= {"head": facts["head"], "start": facts["start"], "layers": heads.section_of(job, split)}
    seconds = {"train": trained - started, "predict": time.monotonic() - trained}
    outcome = {"calibration": calibration, "seconds": seconds}
    num_folds = num_folds_of(job.data.protocol, dataset, job.data.num_folds)
    context = run_context(split, dataset, num_folds, job.arguments(), sections, outcome)
    results = {"format": FORMAT, "labels": labels, **context}
    if args.should_save:
        save_split(split, job.folder / SPLIT, dataset)
        write_layers(heads.layers_of(job, split), job.folder)
        if args.do_train:
            save_model(model, feature_extractor, job.folder)
            write_examples(job, dataset, split)
        if tables:
            results = build_results(write_predictions(tables, job.folder), labels, context)
        write_results(results, job.folder)
    report_scores(results, job.folder, args, outputs_of.trainer, model)
    return results


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
    run: dict[str, Any] = {"split": "train", "seed": job.seed, "fold": job.fold}
    said = prediction_table(clips.rows, *outputs_of(clips), job.labels(dataset), **run)
    if args.should_save:
        save_model(model, feature_extractor, job.folder)
        write_examples(job, dataset, split)
        write_predictions([said], job.folder, FINAL_PREDICTIONS)
        section = model_section(model, job.model.model_name_or_path, facts.pop("trainable"))
        content = {"clips": len(dataset), **(calibration or {}), "model": section, **facts}
        write_json(content, job.folder / FINAL_FIT)
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)


def finish(job: Job, results: dict[str, Any], dataset: Any) -> None:
    """Makes plots, card and report from the results, then marks the run as finished.

    One of several runs gets a card only; `ser report` writes its report on demand.
    """
    has_scores = (job.folder / PREDICTIONS).is_file()
    if has_scores and not job.is_one_of_many:
        add_scores_by_snr(job, dataset)
        if job.data.data_page:
            write_data_page(dataset, job.folder, job.data, encoder_name(job))
        write_plots(job.folder)
    if has_scores and has_model(job.folder):
        write_card(job.folder)
    if has_scores and not job.is_one_of_many:
        rows = {clip: row for row, clip in enumerate(dataset["id"][:])}
        stored = undecoded(dataset)
        write_report(job.folder, audio=lambda clip: stored[rows[clip]]["audio"]["bytes"])
    mark_finished(job.folder)
    if has_scores:
        print_scores(results, read_log(job.folder), each_class=not job.is_one_of_many)
    if has_scores and not job.is_one_of_many:
        print(f"{job.folder}: {what_lies_in(job.folder)}", flush=True)


if __name__ == "__main__":
    after_imports()
    sys.exit(main())
