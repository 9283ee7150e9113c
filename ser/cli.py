"""The `ser` command. Every import that takes time stands inside the command that needs it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ser.run_folder import CONFIG, RESULTS, SPLIT, fold_folders, is_finished

app = typer.Typer(
    help="Speech emotion recognition: what one does with data and trained models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# Flags that a command does not know are those of a configuration, which checks them.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def commands() -> None:
    """Speech emotion recognition: what one does with data and trained models."""


@app.command()
def audit(
    splits: Annotated[
        list[str], typer.Argument(help="Folder of a run, splits.json, EmoBox JSONL, nkululeko CSV, or any manifest.")
    ],
    audio: Annotated[str | None, typer.Option(help="Folder of the recordings, to compare what they hold.")] = None,
    speakers_differ: Annotated[bool, typer.Option("--speakers-differ", help="S01 and s01 are two people.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Says what is wrong with a split; exit code 1 when a speaker or a recording is in two parts."""
    with errors_in_words(debug):
        from ser.data.audit import audit_files
        from ser.evaluation.audit_words import audit_table

        read_wave = None
        if audio is not None:
            from ser_model import read_wave
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
    other_folds: Annotated[bool, typer.Option("--other-folds", help="Let folds differ, as two protocols do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Says how far two runs are apart, with an interval and a paired test over speakers."""
    with errors_in_words(debug):
        from ser.evaluation.compare import compare, comparison_table, predictions_to_compare

        a, b = (predictions_to_compare(run) for run in (run_a, run_b))
        found = compare(a, b, same_folds=not other_folds)
        print(json.dumps(found, indent=1) if as_json else comparison_table(found, run_a, run_b))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Folder with runs in it, at any depth.")],
    csv: Annotated[Path | None, typer.Option(help="File to write the table into too, as CSV.")] = None,
    debug: Debug = False,
) -> None:
    """Lists all finished runs below a folder: settings that differ, scores with intervals, and seconds."""
    with errors_in_words(debug):
        from ser.evaluation.runs_table import runs_below, runs_csv, runs_table
        from ser.files import write_text

        rows, left_out = runs_below(folder)
        print(runs_table(rows))
        for reason in left_out:
            print(f"ser: left out: {reason}", file=sys.stderr)
        if csv is not None:
            write_text(runs_csv(rows), csv)


@app.command()
def predict(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs, URLs; - for a list on stdin.")],
    model: Annotated[str | None, typer.Option(help="Folder of a run, or a repository on the Hub.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="File of ser export, instead of --model; runs on the CPU.")] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Say what is heard when.")] = False,
    window_seconds: Annotated[float | None, typer.Option(help="Window of the timeline (4).")] = None,
    hop_seconds: Annotated[float | None, typer.Option(help="Time between two windows (a quarter of one).")] = None,
    format: Annotated[str, typer.Option(help="table, json, jsonl, csv, parquet, srt or rttm.")] = "table",
    output: Annotated[Path | None, typer.Option(help="File to write, not stdout; with --resume a folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Complete a folder of Parquet shards.")] = False,
    batch_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of audio in a batch; by default one recording on a CPU, 256 s on a GPU."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; the first GPU by default.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")] = None,
    debug: Debug = False,
) -> None:
    """Scores recordings; exit code 1 when one of them could not be used."""
    with errors_in_words(debug):
        from ser.inference.predict import Request, run

        if (model is None) == (onnx is None):
            raise ValueError("--model: give a folder or a repository, or --onnx and a file of ser export, not both.")
        if onnx is not None and (device or "cpu") != "cpu":
            raise ValueError(f"--device: {device}, but --onnx runs on the CPU; use --model for a GPU.")
        lengths = (window_seconds, hop_seconds, batch_seconds)
        request = Request(paths, format, output, overwrite, resume, timeline, *lengths)

        def load():
            if onnx is None:
                return pipeline_of(model, device, revision=revision)
            from ser.inference.onnx_model import load_onnx_pipeline
            from ser_model import SERConfig, SERPipeline

            return load_onnx_pipeline(onnx, SERConfig, SERPipeline)

        code = run(request, load)
    raise typer.Exit(code)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    audio: Annotated[Path | None, typer.Option(help="Folder of the corpus, to hear the clips it gets wrong.")] = None,
    debug: Debug = False,
) -> None:
    """Writes report.html from a run's results and predictions."""
    with errors_in_words(debug):
        from ser.evaluation.report import recordings_in, write_report

        print(write_report(run, recordings_in(audio) if audio else None))


@app.command(context_settings=PASSED_ON)
def baseline(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="As of run_ser.py; its flags may follow.")],
    features: Annotated[str, typer.Option(help="plain, egemaps (needs opensmile), or encoder.")] = "plain",
    output: Annotated[
        Path | None, typer.Option(help="Folder; <output_dir>-baseline by default, of the encoder -baseline-encoder.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Trains a floor to beat on the folds of a configuration: an SVM on acoustic functionals, or logistic regression
    on the frozen encoder."""
    with errors_in_words(debug):
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

            print(verdict_of(attach_baseline(run, folder)).text)
            print(f"{run / RESULTS} holds the comparison; ser report {run} writes it into the page.")


@app.command(context_settings=PASSED_ON)
def robustness(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; flags of the data, as --data_dir, follow.")],
    conditions: Annotated[str | None, typer.Option(help="Kinds or names of conditions, with ; between.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the first GPU by default.")] = None,
    debug: Debug = False,
) -> None:
    """Scores the test clips of a run again under noise, gain, telephone, codecs, rooms, clipping and other speed."""
    with errors_in_words(debug):
        from ser.experiments.robustness import chosen_conditions, classification_results, robustness_table
        from ser.experiments.robustness import robustness as measure
        from ser.run_folder import tested_models

        tested_models(run)
        classification_results(run)
        chosen = chosen_conditions(conditions)
        from data_prep import load_corpus
        from ser.data.data_arguments import read_data_arguments

        def load(folder: Path):
            pipe = pipeline_of(str(folder), "cpu")
            return pipe.model, pipe.feature_extractor

        data, _ = read_data_arguments([str(run / CONFIG), *context.args])
        print(robustness_table(measure(run, load_corpus(data), load, chosen, device)))
        print(f"{run / RESULTS} holds the table; ser report {run} writes it into the page.")


@app.command(context_settings=PASSED_ON)
def ablate(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="As of run_ser.py; its flags may follow.")],
    over: Annotated[list[str], typer.Option(help="flag=value,value; of several, every combination is run.")],
    debug: Debug = False,
) -> None:
    """Trains one configuration under several settings, on the same folds, and compares them in one table."""
    with errors_in_words(debug):
        from run_ser import run_jobs
        from ser.experiments.ablation import ablate, ablation_table

        print(ablation_table(ablate([config, *context.args], over, run_jobs)))


@app.command(context_settings=PASSED_ON)
def leak(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="As of run_ser.py; its flags may follow.")],
    debug: Debug = False,
) -> None:
    """Trains one configuration on folds of speakers and on random folds: what sharing speakers adds to the score."""
    with errors_in_words(debug):
        from run_ser import prepare, run_jobs
        from ser.experiments.ablation import leak, leak_words

        print(leak_words(leak([config, *context.args], run_jobs, prepare)))


@app.command(context_settings=PASSED_ON)
def cross(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="As of run_ser.py, with corpora; its flags may follow.")],
    debug: Debug = False,
) -> None:
    """Trains on each of several corpora and tests on each: how far a model carries beyond its corpus."""
    with errors_in_words(debug):
        from data_prep import load_corpus
        from run_ser import run_jobs
        from ser.experiments.cross import cross, cross_table

        print(cross_table(cross([config, *context.args], run_jobs, load_corpus)))


@app.command(context_settings=PASSED_ON)
def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Folder of a run, or a repository; flags of the data for --check follow.")],
    format: Annotated[str, typer.Option(help="onnx; there is no other.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Round the weights of linear layers to 8 bits.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Score the run's clips with the file, and compare.")] = False,
    output: Annotated[Path | None, typer.Option(help="File to write; RUN/model.onnx by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    debug: Debug = False,
) -> None:
    """Writes a model as one ONNX file; exit code 1 when --check finds more than a point of UAR lost."""
    with errors_in_words(debug):
        from ser.inference.loading import read_config
        from ser.inference.onnx_export import check_flags, check_model, destination, export_onnx

        data = check_flags(format, run if check else None, context.args)
        path, config = destination(run, output, int8, overwrite), read_config(run)
        from ser_model import WAVE_BACKBONES, min_samples

        check_model(config, WAVE_BACKBONES)
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
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; flags of the data, as --data_dir, follow.")],
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Checks a run as a stranger would get it, and puts it on the Hub in one commit."""
    with errors_in_words(debug):
        from ser.publish.hub import check_before_push, push_run

        check_before_push(run, repo_id)
        from data_prep import load_corpus
        from ser.data.data_arguments import read_data_arguments
        from ser.publish.pre_push_checks import audio_of

        data, _ = read_data_arguments([str(run / CONFIG), *context.args])
        push_run(run, repo_id, audio_of(load_corpus(data)), private, dry_run)


@app.command(context_settings=PASSED_ON)
def push_dataset(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="As of data_prep.py, or a run's folder; its flags may follow.")],
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub.")],
    licence: Annotated[str | None, typer.Option(help="The Hub's name of the licence, if the corpus has none.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare everything and push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Puts a prepared corpus on the Hub: Parquet with clips that play, a card, and its folds as configurations."""
    with errors_in_words(debug):
        from data_prep import load_corpus
        from ser.data.data_arguments import read_data_arguments
        from ser.publish.dataset import push_dataset as push_corpus

        source = config / CONFIG if config.is_dir() else config
        data, _ = read_data_arguments([str(source), *context.args])
        push_corpus(load_corpus(data), data, repo_id, licence, private, dry_run)


@app.command()
def serve(
    model: Annotated[str, typer.Option(help="Folder of a run, or a repository on the Hub.")],
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860 by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    share: Annotated[bool, typer.Option("--share", help="Make a public address at gradio.live for a week.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the first GPU by default.")] = None,
    debug: Debug = False,
) -> None:
    """Opens a page to record, upload and hear, in English and Persian."""
    with errors_in_words(debug):
        from ser.page.app import check_gradio
        from ser.page.app import serve as serve_page

        check_gradio()
        pipe = pipeline_of(model, device)
        from ser_model import read_blocks

        serve_page(pipe, read_blocks, model, server_name=host, server_port=port, share=share)


@app.command()
def push_space(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, which ser push has put on the Hub.")],
    repo_id: Annotated[str, typer.Argument(help="user/name of the Space.")],
    model: Annotated[str | None, typer.Option(help="user/name of the model; that of the Space by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the Space into this new folder and push nothing.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the Space private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make everything and push nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Puts the page of `ser serve` on the Hub as a Space, in one commit."""
    with errors_in_words(debug):
        from ser.publish.space import push_space as push

        push(run, repo_id, model, output, private, dry_run)


def splits_of_run(folder: Path) -> dict[str, list[str]]:
    """The `splits.json` in the folder of a run, or those of its seeds and folds, by name; empty for another path."""
    folders = fold_folders(folder, SPLIT) or ([folder] if (folder / SPLIT).is_file() else [])
    return {own.relative_to(folder).as_posix(): [str(own / SPLIT)] for own in folders}


def pipeline_of(model: str, device: str | None = None, **hub: str | None):
    """The pipeline of a model, by the code that is installed here."""
    from ser.inference.loading import load_pipeline, no_garbage_collection, read_config

    read_config(model, **hub)  # what is no model is refused before anything slow is imported
    with no_garbage_collection():
        from ser_model import SERForAudioClassification, SERPipeline

        return load_pipeline(model, SERForAudioClassification, SERPipeline, device, **hub)


@contextmanager
def errors_in_words(debug: bool) -> Iterator[None]:
    """Turns an error of the input into one line and exit code 2; with `debug`, lets it through."""
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
