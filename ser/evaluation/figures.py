"""The plots of a run, each with a caption: the same ones for the report and as PNG files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ser.evaluation import plots, theme
from ser.evaluation import text_alternatives as seen
from ser.evaluation.fold_plots import dev_curve, overlaid_curves
from ser.evaluation.format import baselines_of, format_interval, format_number, metric_of, part_of
from ser.evaluation.layer_plot import layer_scores
from ser.evaluation.schema import check_log, check_results
from ser.files import read_json
from ser.predictions import read_predictions
from ser.run_folder import LOG, REPORT, RESULTS, SPLIT, fold_folders, read_log, read_results


@dataclass(frozen=True)
class Run:
    """The files of a run's folder that the report is made from.

    Attributes:
        results: `results.json`.
        predictions: `predictions.parquet`.
        log: `training_log.json`; empty where the run did not train.
        split: `splits.json`; empty for several folds.
        fold_logs: The logs of the folds of a pooled run, by name (`seed-1/fold-0`).
        fold_reports: Those of these names that have a report.
    """

    results: dict[str, Any]
    predictions: pd.DataFrame
    log: list[dict[str, Any]]
    split: dict[str, Any]
    fold_logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fold_reports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A figure, its title, a caption that says how to read it, and what is to be seen, for screen readers."""

    figure: Figure
    title: str
    caption: str
    seen: str = ""


def read_run(run_dir: Path) -> Run:
    """Reads the folder of a finished run.

    Raises:
        FileNotFoundError: It holds no `results.json` or no `predictions.parquet`.
        ValueError: One of its files is damaged; the message names file and key.
    """
    results, log = read_results(run_dir), read_log(run_dir)
    check_results(results, run_dir / RESULTS)
    check_log(log, run_dir / LOG)
    split = read_json(run_dir / SPLIT) if (run_dir / SPLIT).is_file() else {}
    logs = {folder.relative_to(run_dir).as_posix(): read_log(folder) for folder in fold_folders(run_dir, LOG)}
    reports = tuple(folder.relative_to(run_dir).as_posix() for folder in fold_folders(run_dir, REPORT))
    return Run(results, read_predictions(run_dir), log, split, logs, reports)


def write_plots(run_dir: Path) -> list[Path]:
    """Writes every plot of a run beside its results, as `<name>.png`.

    Returns:
        The files, such as `confusion_matrix.png` and `training_curves.png`.
    """
    run_dir = Path(run_dir)
    return [
        theme.write_png(plot.figure, run_dir / f"{name}.png") for name, plot in run_plots(read_run(run_dir)).items()
    ]


def write_figures(run_dir: Path, folder: Path) -> list[Path]:
    """Writes every plot of a run into a folder for a paper, as `<name>.svg` and `<name>.pdf`, whose text stays text.

    Raises:
        FileNotFoundError, ValueError: As `read_run`.
        NotADirectoryError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--figures: {folder} is a file; give a folder.")
    named = run_plots(read_run(Path(run_dir))).items()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        theme.write_vector(plot.figure, folder / f"{name}.{kind}") for name, plot in named for kind in ("svg", "pdf")
    ]


def run_plots(run: Run) -> dict[str, Plot]:
    """The plots for which a run has figures, by name."""
    results = run.results
    makers = {
        "confusion_matrix": _confusion_matrix(results),
        "reliability": _reliability(results.get("calibration", {})),
        "risk_coverage": _risk_coverage(results.get("calibration", {})),
        "speakers": _speakers(results),
        "layers": _layers(results),
        "robustness": _robustness(results),
        "training_curves": _training_curves(run.log) or _fold_curves(run),
        "class_distribution": _class_distribution(results),
        "duration_distribution": _duration_distribution(run.predictions),
        **_scatters(run),
    }
    return {name: plot for name, plot in makers.items() if plot is not None}


def score_scale(results: Mapping[str, Any]) -> Plot | None:
    """The headline beside chance and the baselines."""
    name, value, interval = metric_of(results)
    if value is None:
        return None
    marks = {}
    if results.get("task") != "regression":
        names = {"functionals": "functionals", "encoder": "frozen encoder"}
        floors = {names[kind]: baseline.get("uar") for kind, baseline in baselines_of(dict(results)).items()}
        marks = {"chance": results.get("chance", {}).get("uar"), **floors}
    marks = {mark: where for mark, where in marks.items() if where is not None}
    others = "".join(f", {mark} {format_number(where)}" for mark, where in marks.items())
    title = f"{name} {format_interval(value, interval)} on a scale from 0 to 1{others}"
    return Plot(plots.score_scale(value, interval, marks), title, "")


def robustness_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Conditions of `results["robustness"]` as rows: `name`, `value`, `interval`, `change`, `change_interval`."""
    conditions = results.get("robustness", {}).get("conditions", {})
    return [
        {
            "name": name,
            "value": scores.get("uar"),
            "interval": scores.get("interval"),
            "change": None if scores.get("drop") is None else -scores["drop"],
            "change_interval": [-bound for bound in reversed(scores["drop_interval"])]
            if scores.get("drop_interval")
            else None,
        }
        for name, scores in conditions.items()
    ]


def folds_of_robustness(results: Mapping[str, Any]) -> str | None:
    """Which folds `ser robustness --folds` scored; None if it was all of them."""
    folders = results.get("robustness", {}).get("folds")
    return f"Only the test clips of {', '.join(map(str, folders))}." if folders else None


def _confusion_matrix(results: Mapping[str, Any]) -> Plot | None:
    counts = results.get(part_of(results), {}).get("confusion")
    if not counts:
        return None
    seeds = len(results.get("protocol", {}).get("seeds", []))
    summed = f" Numbers are means over {seeds} seeds." if seeds > 1 else ""
    return Plot(
        plots.confusion_matrix(counts, results["labels"]),
        "Confusion matrix",
        "Rows are true classes, columns predicted ones. A cell holds its share of the row and its clips." + summed,
        seen.seen_in_confusions(counts, results["labels"]),
    )


def _reliability(section: Mapping[str, Any]) -> Plot | None:
    if not section.get("reliability"):
        return None
    curves = {"before calibration": section.get("reliability_before"), "after": section["reliability"]}
    curves = {name: bins for name, bins in curves.items() if bins}
    return Plot(
        plots.reliability(curves if len(curves) > 1 else {"the model": section["reliability"]}),
        "Reliability diagram",
        "Equal groups of test clips, by confidence. On the dashed line, a confidence of 70 % is right 7 times in "
        "10. Bars are 95 % intervals for independent clips.",
    )


def _risk_coverage(section: Mapping[str, Any]) -> Plot | None:
    if not section.get("abstain"):
        return None
    on_test = (section.get("precision_90") or {}).get("test")
    caption = "Accuracy on the answered test clips when the model abstains on the least confident ones."
    if on_test:
        caption += " The diamond is the threshold chosen on dev."
    return Plot(plots.risk_coverage(section["abstain"], on_test), "Accuracy against coverage", caption)


def _speakers(results: Mapping[str, Any]) -> Plot | None:
    per_speaker = results.get("speakers", {}).get("per_speaker", {})
    rows = [
        {
            "speaker": name,
            "gender": scores.get("gender"),
            "value": scores["uar"],
            "interval": scores.get("intervals", {}).get("uar"),
        }
        for name, scores in per_speaker.items()
        if scores.get("uar") is not None
    ]
    if not rows:
        return None
    return Plot(
        plots.speakers(rows, results.get("test", {}).get("uar"), "UAR"),
        "UAR of each speaker",
        "Marks are speakers, with 95 % intervals for new clips of each. The dashed line is the UAR of all clips.",
        seen.seen_in_speakers(rows, "UAR"),
    )


def _layers(results: Mapping[str, Any]) -> Plot | None:
    layers = results.get("layers")
    if not layers:
        return None
    key, name, judge = ("ccc", "CCC", "by CCC") if "ccc" in layers[0] else ("uar", "UAR", "by log loss")
    rows = [{"interval": None, **layer, "value": layer[key]} for layer in layers if layer.get(key) is not None]
    num_folds = sum(layer["chosen"] for layer in layers)
    who = (
        "The diamond was chosen"
        if num_folds == 1
        else f"The {num_folds} folds chose the diamonds (how many of them stands above each)"
    )
    brackets = " Bars are 95 % intervals over speakers." if any(row["interval"] for row in rows) else ""
    caption = (
        f"A linear model on each layer of the frozen encoder, by cross-validation over the speakers of train; dev and "
        f"test are not used. {who}, {judge}, not by the height of the mark.{brackets} The best of many "
        "layers looks a little better than it is; the test score measures the model."
    )
    return Plot(layer_scores(rows, name, num_folds), f"{name} by layer", caption)


def _robustness(results: Mapping[str, Any]) -> Plot | None:
    rows = [row for row in robustness_rows(results) if row["value"] is not None]
    if not rows:
        return None
    clean = results["robustness"].get("clean", {}).get("uar", results.get("test", {}).get("uar"))
    caption = (
        "UAR on the same test clips after each change, with 95 % intervals. The dashed line is UAR on unchanged clips."
    )
    caption = " ".join(filter(None, (caption, folds_of_robustness(results))))
    return Plot(plots.robustness_bars(rows, clean), "Robustness", caption, seen.seen_in_bars(rows, clean))


def _training_curves(log: list[dict[str, Any]]) -> Plot | None:
    if not any({"loss", "eval_loss", "eval_uar", "eval_ccc"} & entry.keys() for entry in log):
        return None
    caption = "The dot marks the best epoch on dev; test is not used."
    name = "CCC" if any("eval_ccc" in entry for entry in log) else "UAR"
    told = seen.seen_in_curves(dev_curve(log), name)
    return Plot(plots.training_curves(log), "Training curves", caption, told)


def _fold_curves(run: Run) -> Plot | None:
    """The dev curves of all folds and seeds of a pooled run."""
    curves = {name: curve for name, log in run.fold_logs.items() if len(curve := dev_curve(log)) > 1}
    if not curves:
        return None
    name = "CCC" if run.results.get("task") == "regression" else "UAR"
    caption = f"Dev {name} of {len(curves)} folds and seeds, and their mean as the thick line; test is not used."
    told = "; ".join(f"{fold}: best {format_number(curve[:, 1].max())}" for fold, curve in curves.items())
    return Plot(overlaid_curves({"mean": list(curves.values())}, name), "Training curves", caption, told)


def _class_distribution(results: Mapping[str, Any]) -> Plot | None:
    counts = results.get("corpus", {}).get("clips_per_class")
    if not counts:
        return None
    told = seen.seen_in_counts(counts)
    return Plot(plots.class_distribution(counts), "Clips per class", "Clips of each class in the whole corpus.", told)


def _duration_distribution(predictions: pd.DataFrame) -> Plot | None:
    if "duration" not in predictions:
        return None
    seconds = predictions.drop_duplicates("id")["duration"].dropna()
    seconds = seconds[seconds > 0]
    if seconds.empty:
        return None
    return Plot(
        plots.duration_distribution(seconds), "Lengths of clips", f"Lengths of the {len(seconds):,} clips scored."
    )


def _scatters(run: Run) -> dict[str, Plot]:
    """A plot of each dimension of a regression."""
    if run.results.get("task") != "regression":
        return {}
    test = run.predictions[run.predictions["split"] == "test"]
    return {
        f"scatter_{number}": Plot(
            plots.regression_scatter(test[f"truth_{name}"].to_numpy(), test[f"pred_{name}"].to_numpy(), name),
            f"Predicted against annotated {name}",
            "Each dot is a test clip; on the dashed line the prediction is exact.",
        )
        for number, name in enumerate(run.results["labels"])
        if len(test)
    }
