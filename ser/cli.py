"""The `ser` command. A slow import stands inside the command that needs it."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ser.inference.output_formats import FORMATS
from ser.progress import escape_unknown_letters, no_bars_in_files
from ser.run_folder import (
    CONFIG,
    RESULTS,
    SPLIT,
    fold_folders,
    is_finished,
    models_of_folds,
    predictions_to_pool,
    read_results,
)

app = typer.Typer(
    help="Speech emotion recognition: check data, train baselines, score recordings, publish models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# A flag that a command does not know is passed on to the configuration, which checks it.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Latex = Annotated[bool, typer.Option("--latex", help="Print a table in LaTeX (booktabs) instead.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RayFlag = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Score on the Ray cluster at ADDRESS (host:port, or auto for the one of this machine; by default "
        "RAY_ADDRESS, or a new cluster of this machine). Writes Parquet shards into --output, and continues there.",
    ),
]


@app.callback()
def commands() -> None:
    """Speech emotion recognition: check data, train baselines, score recordings, publish models."""
    no_bars_in_files()
    escape_unknown_letters()


@app.command()
def audit(
    splits: Annotated[
        list[str], typer.Argument(help="Folder of a run, splits.json, EmoBox JSONL, nkululeko CSV, or any manifest.")
    ],
    audio: Annotated[
        str | None, typer.Option(help="Folder of the recordings; finds the same sound under two names.")
    ] = None,
    speakers_differ: Annotated[
        bool, typer.Option("--speakers-differ", help="Treat S01 and s01 as two people.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Checks a split for faults; exit code 1 when a speaker or a recording is in two parts."""
    with errors_in_words(debug):
        from ser.data.audit import audit_files
        from ser.evaluation.audit_words import audit_table

        read_wave = None
        if audio is not None:
            from functools import partial

            from ser.data.data_arguments import DataArguments
            from ser_model import read_wave as read_whole

            read_wave = partial(read_whole, max_seconds=DataArguments.max_file_seconds)
        sources = splits_of_run(Path(splits[0])) if len(splits) == 1 else {}
        audits = {
            name: audit_files(files, audio, read_wave, speakers_differ)
            for name, files in (sources or {"": splits}).items()
        }
        if as_json:
            found = audits if len(audits) > 1 else next(iter(audits.values()))
            print(json.dumps(found, ensure_ascii=False, indent=1))
        else:
            print("\n\n".join(f"{name}\n" * (len(audits) > 1) + audit_table(found) for name, found in audits.items()))
    if any(found["leaks"] for found in audits.values()):
        raise typer.Exit(1)


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="Folder of a run or of its seed-1, or predictions.parquet.")],
    run_b: Annotated[str, typer.Argument(help="The run to compare it with, on the same test clips.")],
    other_folds: Annotated[
        bool, typer.Option("--other-folds", help="Compare runs whose folds differ, such as two protocols.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    latex: Latex = False,
    debug: Debug = False,
) -> None:
    """Compares two runs: the difference, its interval and a paired test over speakers."""
    with errors_in_words(debug):
        for run in (run_a, run_b):
            predictions_to_pool(run)  # a wrong path is refused before anything slow is imported
        from ser.evaluation.compare import compare, comparison_table, predictions_to_compare

        a, b = (predictions_to_compare(run) for run in (run_a, run_b))
        found = compare(a, b, same_folds=not other_folds)
        if latex:
            from ser.evaluation.compare import comparison_rows
            from ser.evaluation.latex import latex_table

            caption = f"Two runs on the same {found['clips']} clips of {found['clusters']} {found['interval_unit']}s."
            print(latex_table(comparison_rows(found, run_a, run_b), caption, "tab:comparison"))
        else:
            print(json.dumps(found, indent=1) if as_json else comparison_table(found, run_a, run_b))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Folder with runs in it, at any depth.")],
    csv: Annotated[Path | None, typer.Option(help="File to write the table into too, as CSV.")] = None,
    html: Annotated[Path | None, typer.Option(help="File to write a page into: the table and all curves.")] = None,
    against: Annotated[
        str | None, typer.Option(help="A run as the table names it; the page compares the others with it.")
    ] = None,
    latex: Latex = False,
    debug: Debug = False,
) -> None:
    """Lists all finished runs below a folder: settings that differ, scores with intervals, and seconds."""
    with errors_in_words(debug):
        from ser.evaluation.runs_table import runs_below, runs_cells, runs_csv, runs_table
        from ser.files import write_text

        rows, left_out = runs_below(folder)
        if latex:
            from ser.evaluation.latex import latex_table

            print(latex_table(runs_cells(rows), f"Runs in {folder}.", "tab:runs"))
        else:
            print(runs_table(rows))
        for reason in left_out:
            print(f"ser: left out: {reason}", file=sys.stderr)
        if csv is not None:
            write_text(runs_csv(rows), csv)
        if against is not None and html is None:
            raise ValueError("--against: compares runs on the page; give the page too, with --html FILE.")
        if html is not None:
            from ser.evaluation.runs_page import write_runs_page

            print(write_runs_page(folder, rows, against, html))


class RayAddress(TyperCommand):
    """Gives `--ray` a value where no address follows it: an option of typer always takes one."""

    ADDRESS = re.compile(r"auto|local|ray://\S+|[\w.:\[\]-]+:\d+")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = args[: args.index("--")] if "--" in args else args
        if "--ray" in flags:
            after = flags.index("--ray") + 1
            if after == len(flags) or not self.ADDRESS.fullmatch(flags[after]):
                args = [*args[:after], os.environ.get("RAY_ADDRESS") or "local", *args[after:]]
        return super().parse_args(ctx, args)


@app.command(cls=RayAddress)
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs, URLs (http, s3, gs, hf, ...), lists (.txt, or .parquet with a column file or "
            "path); - for a list on stdin."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Folder of a run, or a repository on the Hub.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="File of ser export, instead of --model; runs on the CPU.")] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Give scores over time, not one for the whole recording.")
    ] = False,
    window_seconds: Annotated[
        float | None, typer.Option(help="Length of a window of the timeline; 4 s if the model gives none.")
    ] = None,
    hop_seconds: Annotated[
        float | None, typer.Option(help="Time between two windows; a quarter of a window by default.")
    ] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "table",
    output: Annotated[
        Path | None, typer.Option(help="File to write instead of stdout; with --resume or --ray a folder.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help="File (.parquet or .npy) for the pooled vectors, which are given in place of scores."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Write Parquet shards into --output; continue where a stopped run ended.")
    ] = False,
    batch_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of audio in a batch; by default 8 s a core on a CPU, 256 s on a GPU."),
    ] = None,
    ray: RayFlag = None,
    ray_actors: Annotated[
        int | None, typer.Option(help="Actors that score; by default one a GPU, or a core where there is no GPU.")
    ] = None,
    max_megabytes: Annotated[float, typer.Option(help="Largest download of a URL.")] = 500.0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; the first GPU by default.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")] = None,
    debug: Debug = False,
) -> None:
    """Scores recordings; exit code 1 when one of them could not be used."""
    with errors_in_words(debug):
        from ser.inference.predict import Request, run

        load = model_loader(model, onnx, device, revision)
        lengths = (window_seconds, hop_seconds, batch_seconds)
        request = Request(
            paths, format, output, overwrite, resume, timeline, *lengths, max_megabytes, embeddings,
            ray=ray, actors=ray_actors, device=device, debug=debug,
        )  # fmt: skip
        code = run(request, load)
    raise typer.Exit(code)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    audio: Annotated[
        Path | None, typer.Option(help="Folder of the corpus; adds the misclassified clips to the report, as audio.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder to write the plots into too, as SVG and PDF.")] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print tables, method and BibTeX for a paper in LaTeX; write no report.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Writes report.html from the results and predictions of a run."""
    with errors_in_words(debug):
        results = read_results(run)  # a wrong folder is refused before anything slow is imported
        if figures is not None:
            from ser.evaluation.figures import write_figures

            written = write_figures(run, figures)
            print(f"{figures}: {len(written)} files", file=sys.stderr)
        if latex:
            from ser.evaluation.latex import run_in_latex

            print(run_in_latex(results))
            return
        from ser.evaluation.report import recordings_in, write_report

        print(write_report(run, recordings_in(audio) if audio else None))


@app.command(context_settings=PASSED_ON)
def baseline(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="Configuration of run_ser.py; its flags may follow.")],
    features: Annotated[str, typer.Option(help="plain, egemaps (needs opensmile), or encoder.")] = "plain",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; <output_dir>-baseline by default (encoder: <output_dir>-baseline-encoder)."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Trains a baseline on the folds of a configuration: an SVM on acoustic functionals, or logistic regression on
    the frozen encoder."""
    with errors_in_words(debug):
        check_before_torch([config, *context.args])
        from data_prep import load_corpus
        from ser.experiments.baseline import attach_baseline, baseline_words, run_baseline
        from ser.training.arguments import parse_arguments

        model, data, training = parse_arguments([config, *context.args])
        run = Path(training.output_dir)
        folder = output or Path(f"{run}-baseline{'-encoder' * (features == 'encoder')}")
        if features == "encoder":
            from ser.experiments.encoder_baseline import run_encoder_baseline
            from ser.training.jobs import Job

            found = run_encoder_baseline(load_corpus(data), Job(model, data, training, run, training.seed, -1), folder)
        else:
            found = run_baseline(load_corpus(data), data, folder, features, training.seed, training.overwrite)
        print(baseline_words(found))
        if is_finished(run):
            from ser.evaluation.format import verdict_of

            if verdict := verdict_of(attach_baseline(run, folder)):
                print(verdict.text)
            print(f"{run / RESULTS} holds the comparison; run `ser report {run}` to add it to the report.")


@app.command(context_settings=PASSED_ON)
def robustness(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(help="Folder of a finished run; flags of the data, such as --data_dir, may follow.")
    ],
    conditions: Annotated[str | None, typer.Option(help="Kinds or names of conditions, with ; between.")] = None,
    folds: Annotated[str | None, typer.Option(help="Folds to score, such as 0,2; all by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the first GPU by default.")] = None,
    debug: Debug = False,
) -> None:
    """Scores the test clips of a run again under noise, gain, telephone band, codecs, rooms, clipping and speed."""
    with errors_in_words(debug):
        from ser.experiments.conditions import chosen_conditions

        models_of_folds(run, folds)  # what is wrong is refused before anything slow is imported
        chosen = chosen_conditions(conditions)
        from ser.experiments.robustness import classification_results, robustness_table
        from ser.experiments.robustness import robustness as measure

        classification_results(run)
        from ser.data.data_arguments import read_data_arguments

        data, _ = read_data_arguments([str(run / CONFIG), *context.args], "ser robustness")
        from data_prep import load_corpus

        def load(folder: Path) -> tuple[Any, Any]:
            pipe = pipeline_of(str(folder), "cpu")
            return pipe.model, pipe.feature_extractor

        print(robustness_table(measure(run, load_corpus(data), load, chosen, device, folds)))
        print(f"{run / RESULTS} holds the table; run `ser report {run}` to add it to the report.")


@app.command(context_settings=PASSED_ON)
def ablate(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="Configuration of run_ser.py; its flags may follow.")],
    over: Annotated[
        list[str], typer.Option(help="flag=value,value; may be repeated, then every combination is trained.")
    ],
    latex: Latex = False,
    debug: Debug = False,
) -> None:
    """Trains one configuration under several settings, on the same folds, and compares them in one table."""
    with errors_in_words(debug):
        from ser.experiments.settings import check_settings

        check_settings([config, *context.args], over)
        from run_ser import run_jobs
        from ser.evaluation.latex import latex_table
        from ser.experiments.ablation import ablate, ablation_rows, ablation_table

        found = ablate([config, *context.args], over, run_jobs)
        caption = f"{config} under several settings."
        print(latex_table(ablation_rows(found), caption, "tab:ablation") if latex else ablation_table(found))


@app.command(context_settings=PASSED_ON)
def leak(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="Configuration of run_ser.py; its flags may follow.")],
    debug: Debug = False,
) -> None:
    """Trains a configuration on speaker-independent and on random folds: how much shared speakers raise the score."""
    with errors_in_words(debug):
        check_before_torch([config, *context.args])
        from run_ser import prepare, run_jobs
        from ser.experiments.ablation import leak, leak_words

        print(leak_words(leak([config, *context.args], run_jobs, prepare)))


@app.command(context_settings=PASSED_ON)
def cross(
    context: typer.Context,
    config: Annotated[
        str, typer.Argument(help="Configuration of run_ser.py with several corpora; its flags may follow.")
    ],
    latex: Latex = False,
    debug: Debug = False,
) -> None:
    """Trains on each of several corpora and tests on each: how well a model works outside its corpus."""
    with errors_in_words(debug):
        check_before_torch([config, *context.args])
        from data_prep import load_corpus
        from run_ser import run_jobs
        from ser.evaluation.latex import latex_table
        from ser.experiments.cross import cross, cross_rows, cross_table

        found = cross([config, *context.args], run_jobs, load_corpus)
        caption = "UAR of models trained on one corpus and tested on each."
        print(latex_table(cross_rows(found), caption, "tab:cross") if latex else cross_table(found))


@app.command(context_settings=PASSED_ON)
def export(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(help="Folder of a run, or a repository on the Hub; for --check, flags of the data may follow."),
    ],
    format: Annotated[str, typer.Option(help="onnx is the only format.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights of linear layers as 8-bit integers.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Score the test clips of the run with the file, and compare.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="File to write; RUN/model.onnx by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    debug: Debug = False,
) -> None:
    """Writes a model as one ONNX file; exit code 1 when --check finds a loss of more than one point of UAR."""
    with errors_in_words(debug):
        from ser.inference.loading import read_config

        if not Path(run).is_dir():
            read_config(run)  # refuses a wrong name before anything slow is imported
        from ser.inference.onnx_export import check_flags, check_model, destination, export_onnx

        data = check_flags(format, run if check else None, context.args)
        path, config = destination(run, output, int8, overwrite), read_config(run)
        from ser_model import min_samples

        check_model(config)
        pipe = pipeline_of(run, "cpu")
        needed = min_samples(pipe.model.config.backbone_config)
        print(export_onnx(pipe.model, pipe.feature_extractor, path, needed, int8))
        if data is None:
            return
        from data_prep import load_corpus
        from ser.inference.onnx_check import compare_with_run
        from ser.publish.pre_push_checks import audio_of

        found = compare_with_run(path, run, audio_of(load_corpus(data)))
        print(found.words())
    if not found.is_good:
        raise typer.Exit(1)


@app.command(context_settings=PASSED_ON)
def push(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(help="Folder of a finished run; flags of the data, such as --data_dir, may follow.")
    ],
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run all checks, push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Checks a run in a fresh process, as its users will load it, and puts it on the Hub in one commit."""
    with errors_in_words(debug):
        from ser.publish.hub import check_before_push, push_run

        check_before_push(run, repo_id)
        from ser.data.data_arguments import read_data_arguments

        data, _ = read_data_arguments([str(run / CONFIG), *context.args], "ser push")
        from data_prep import load_corpus
        from ser.publish.pre_push_checks import audio_of

        push_run(run, repo_id, audio_of(load_corpus(data)), private, dry_run)


@app.command(context_settings=PASSED_ON)
def push_dataset(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Argument(help="Configuration of data_prep.py, or the folder of a run; flags of the data may follow."),
    ],
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub.")],
    licence: Annotated[
        str | None, typer.Option(help="Licence, as the Hub names it; needed if the corpus names none.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare everything, push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Puts a prepared corpus on the Hub: Parquet with playable clips, a card, and one configuration per fold."""
    with errors_in_words(debug):
        from ser.data.data_arguments import read_data_arguments

        source = config / CONFIG if config.is_dir() else config
        data, _ = read_data_arguments([str(source), *context.args], "ser push-dataset")
        from data_prep import load_corpus
        from ser.publish.dataset import push_dataset as push_corpus

        push_corpus(load_corpus(data), data, repo_id, licence, private, dry_run)


@app.command()
def serve(
    model: Annotated[str, typer.Option(help="Folder of a run, or a repository on the Hub.")],
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860 by default.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; with 0.0.0.0 other machines can connect.")
    ] = "127.0.0.1",
    max_minutes: Annotated[float, typer.Option(help="Refuse longer recordings.")] = 10.0,
    max_seconds: Annotated[float, typer.Option(help="Give up a recording whose answer takes longer.")] = 120.0,
    auth: Annotated[
        Path | None, typer.Option(help="File that holds user:password for visitors; or set SER_PAGE_AUTH.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Open a public address at gradio.live for a week.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the first GPU by default.")] = None,
    debug: Debug = False,
) -> None:
    """Serves a page to record or upload speech and see its emotion, in English and Persian."""
    with errors_in_words(debug):
        from ser.page.answer import Limits
        from ser.page.app import check_gradio, read_auth
        from ser.page.app import serve as serve_page

        for flag, value in (("--max-minutes", max_minutes), ("--max-seconds", max_seconds)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{flag}: {value} is not a number above 0.")
        check_gradio()
        visitor = read_auth(auth)
        pipe = pipeline_of(model, device)
        serve_page(
            pipe, model, Limits(max_minutes, max_seconds), server_name=host, server_port=port, share=share, auth=visitor
        )


configs_app = typer.Typer(invoke_without_command=True)
app.add_typer(configs_app, name="configs")


@configs_app.callback()
def configs(context: typer.Context) -> None:
    """Lists the configurations that come with ser; `ser configs show NAME` prints one."""
    if context.invoked_subcommand is None:
        with errors_in_words(False):
            from ser.shipped_configs import configs_table

            print(configs_table())


@configs_app.command("show")
def show_config(name: Annotated[str, typer.Argument(help="As ser configs lists it, such as recipes/probe.")]) -> None:
    """Prints a configuration, to be saved and changed."""
    with errors_in_words(False):
        from ser.shipped_configs import config_text

        print(config_text(name), end="")


@app.command()
def push_space(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run that ser push has put on the Hub.")],
    repo_id: Annotated[str, typer.Argument(help="user/name of the Space.")],
    model: Annotated[str | None, typer.Option(help="user/name of the model; by default the same as the Space.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the Space into this new folder and push nothing.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the Space private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make everything, push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Puts the page of `ser serve` on the Hub as a Space, in one commit."""
    with errors_in_words(debug):
        from ser.publish.staging import check_run

        check_run(run)  # before anything slow is imported
        from ser.publish.space import push_space as push

        push(run, repo_id, model, output, private, dry_run)


def check_before_torch(argv: list[str]) -> None:
    """Checks a command line of `run_ser.py`: a typo is answered before ten seconds of imports."""
    from ser.training.command_line import check_command_line

    check_command_line(argv)


def splits_of_run(folder: Path) -> dict[str, list[str]]:
    """The `splits.json` in the folder of a run, or those of its seeds and folds, by name; empty for another path."""
    folders = fold_folders(folder, SPLIT) or ([folder] if (folder / SPLIT).is_file() else [])
    return {own.relative_to(folder).as_posix(): [str(own / SPLIT)] for own in folders}


def model_loader(model: str | None, onnx: Path | None, device: str | None, revision: str | None) -> Callable[..., Any]:
    """Checks which model is meant; what is returned loads it on a device, with so many threads if they are given."""
    source = onnx if model is None else model
    if source is None:
        raise ValueError("--model: is missing; give a run's folder, a repository on the Hub, or a file with --onnx.")
    if model is not None and onnx is not None:
        raise ValueError("--onnx: cannot be used with --model; give one of the two.")
    if onnx is not None and (device or "cpu") != "cpu":
        raise ValueError(f"--device: {device}, but --onnx runs on the CPU; use --model for a GPU.")

    def load(device: str | None, threads: int | None = None) -> Any:
        if isinstance(source, str):
            pipe = pipeline_of(source, device, revision=revision)
            if threads is not None:
                import torch

                torch.set_num_threads(threads)
            return pipe
        from ser.imports import quick_imports

        with quick_imports():
            from ser.inference.onnx_model import load_onnx_pipeline
            from ser_model import SERConfig, SERPipeline

            return load_onnx_pipeline(source, SERConfig, SERPipeline, threads)

    return load


def pipeline_of(model: str, device: str | None = None, **hub: str | None) -> Any:
    """Loads a model with the installed code."""
    from ser.imports import quick_imports
    from ser.inference.loading import load_pipeline, read_config

    read_config(model, **hub)  # refuses a wrong folder before anything slow is imported
    with quick_imports():
        return load_pipeline(model, device, **hub)


@contextmanager
def errors_in_words(debug: bool) -> Iterator[None]:
    """Prints an error of the input as one line and exits with code 2; `debug` shows the traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"ser: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app(prog_name="ser")
