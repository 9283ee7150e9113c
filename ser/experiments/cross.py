"""Trains on each corpus and tests on each: how well a model works on a corpus that it was not trained on.

Each row of the table is an ordinary run in its own folder. A finished run is not made again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ser.data.clips import Clip, read_clips
from ser.data.corpora.table import list_corpus
from ser.data.data_arguments import DataArguments
from ser.data.splits import check_split, make_split, num_folds_of
from ser.evaluation.format import MISSING, format_interval
from ser.evaluation.heat_map import heat_map
from ser.evaluation.per_corpus import corpus_scores
from ser.evaluation.text_tables import aligned, csv_text, score_cells, score_columns
from ser.evaluation.theme import write_png
from ser.experiments.ablation import Arm, Run, make_arm, make_runs
from ser.files import write_json, write_text
from ser.predictions import labels_of, read_predictions
from ser.run_folder import read_results
from ser.training.arguments import parse_arguments

ACROSS, WITHIN = "train_on_one_corpus", "speaker_kfold"


@dataclass(frozen=True)
class Row:
    """One run: the corpus that it is trained on and those that it is tested on.

    Attributes:
        train: Name of the corpus that it is trained on.
        tests: Names of the corpora that it is tested on.
        arm: Its name, flags and arguments.
        why: Why it cannot be made; empty where it can.
    """

    train: str
    tests: tuple[str, ...]
    arm: Arm
    why: str


def cross(argv: Sequence[str], run: Run, load: Callable[[DataArguments], Any]) -> dict[str, Any]:
    """Trains on each corpus of `--corpora` and tests on each.

    A corpus is tested on itself by the protocol and folds of the configuration, or by folds of speakers where that
    protocol splits by corpus. The test on another corpus uses all of its clips; the dev set of that model is made of
    speakers of its own corpus. A model learns the classes of its corpus; clips of other classes are left out of its
    test.

    Args:
        argv: What `run_ser.py` takes: `CONFIG [--flag value ...]`.
        run: Makes one run, or those of all folds and seeds: `run_ser.run_jobs`.
        load: Prepares the corpora: `data_prep.load_corpus`.

    Returns:
        The content of `cross.json`, written beside `cross.csv` and `cross.png` into `<output_dir>-cross`: `corpora`
        (names), `leaks` (sentences, by the corpus trained on) and `cells`, each with `train`, `test`, `classes`
        (number), `folder` and the scores of `corpus_scores`, or with `why`, the reason why there is no score.

    Raises:
        ValueError: An argument is wrong, there are fewer than two corpora, or no run can be made.
    """
    base = parse_arguments(argv)
    names, folder = list(base[1].entries()), Path(f"{base[2].output_dir}-cross")
    if len(names) < 2:
        raise ValueError(f"--corpora: ser cross needs two corpora or more, found {len(names)}; list them in the file.")
    if base[1].target_columns:
        raise ValueError(
            "--target_columns: this is a regression, and ser cross compares classifications; leave it out."
        )
    clips = read_clips(load(base[1]))
    plan = [across(argv, folder, base[1], clips, name) for name in names]
    plan += [within(argv, folder, base[1], clips, index) for index in range(len(names))]
    possible = [row for row in plan if not row.why]
    if not possible:
        raise ValueError(f"ser cross: no run can be made. {plan[0].why}")
    for row in plan:
        if row.why:
            print(f"{row.arm.name} is not made: {row.why}", flush=True)
    make_runs([row.arm for row in possible], base, folder, run)
    content: dict[str, Any] = {
        "corpora": names,
        "leaks": {row.train: found for row in possible if row.train not in row.tests and (found := _leaks(row.arm))},
        "cells": [cell for row in plan for cell in cells_of(row)],
    }
    write_json(content, folder / "cross.json")
    write_text(_csv(content["cells"]), folder / "cross.csv")
    write_png(cross_figure(content), folder / "cross.png")
    return content


def across(argv: Sequence[str], folder: Path, data: DataArguments, clips: list[Clip], name: str) -> Row:
    """The run that trains on one corpus and is tested on all others."""
    classes = {clip.emotion for clip in clips if clip.corpus == name}
    kept = [clip for clip in clips if clip.emotion in classes]
    there = sorted({clip.corpus for clip in kept if clip.corpus is not None})
    flags = {"protocol": ACROSS, "fold": str(there.index(name)), "splits_file": ""}
    arm = make_arm(argv, folder, flags | _label_map(data, classes), f"across-{name}")
    others = tuple(other for other in data.entries() if other != name)
    return Row(name, others, arm, why_not(kept, arm.arguments[1]))


def within(argv: Sequence[str], folder: Path, data: DataArguments, clips: list[Clip], index: int) -> Row:
    """The run that trains and tests on one corpus, by the configured protocol or by folds of speakers."""
    name = list(data.entries())[index]
    corpora = json.dumps([json.loads(data.corpora or "[]")[index] | {"name": name}], ensure_ascii=False)
    own = [clip for clip in clips if clip.corpus == name]
    speakers = {clip.speaker for clip in own}
    protocol = WITHIN if data.protocol in ("leave_one_corpus_out", ACROSS) else data.protocol
    folds = min(data.num_folds, max(2, len(speakers))) if protocol == WITHIN else data.num_folds
    flags = {"corpora": corpora, "protocol": protocol, "num_folds": str(folds), "splits_file": ""}
    classes = {clip.emotion for clip in own}
    arm = make_arm(argv, folder, flags | _label_map(replace(data, corpora=corpora), classes), f"within-{name}")
    return Row(name, (name,), arm, why_not(own, arm.arguments[1]))


def why_not(clips: list[Clip], data: DataArguments) -> str:
    """Why the splits that `data` asks for cannot be made of the clips; empty where they can."""
    if len({clip.emotion for clip in clips}) < 2:
        return "it has one class, and a classifier needs two."
    columns = {field.name: [getattr(clip, field.name) for clip in clips] for field in fields(Clip)}
    try:
        total = num_folds_of(data.protocol, columns, data.num_folds)
        for fold in range(total) if data.fold == "all" else [int(data.fold)]:
            split = make_split(columns, data.protocol, fold, data.num_folds, data.split_seed)
            check_split(split, columns, data.accept_speaker_leakage)
    except ValueError as error:
        return str(error)
    return ""


def cells_of(row: Row) -> list[dict[str, Any]]:
    """The cells of the table that a run fills."""
    if row.why:
        return [{"train": row.train, "test": test, "why": row.why} for test in row.tests]
    table = read_predictions(row.arm.folder)
    tested, cells = table[table["split"] == "test"], []
    for test in row.tests:
        rows = tested[tested["corpus"] == test]
        cell: dict[str, Any] = {"train": row.train, "test": test}
        if rows.empty:
            cells.append(cell | {"why": f"{test} has no class of {row.train}, or was not tested"})
            continue
        scores = corpus_scores(rows, labels_of(table))
        classes = len(labels_of(table)) - len(scores["lacks"])
        cells.append({**cell, "classes": classes, "folder": row.arm.folder.name, **scores})
    return cells


def cross_table(content: dict[str, Any]) -> str:
    """The content of `cross.json` as text: one line for each corpus trained on, UAR with intervals."""
    lines = aligned(cross_rows(content))
    if _is_uneven(content):
        lines.append("Each UAR is the mean over the classes that both corpora have; their number is in parentheses.")
    lines += [f"{train}: {leak}" for train, leaks in content["leaks"].items() for leak in leaks]
    return "\n".join(lines)


def cross_rows(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of that table, the header first."""
    cells, names, uneven = _by_pair(content), content["corpora"], _is_uneven(content)
    rows = [(train, *(_cell_words(cells[train, test], uneven) for test in names)) for train in names]
    return [("trained on", *names), *rows]


def _is_uneven(content: dict[str, Any]) -> bool:
    """Whether the cells are scores over different numbers of classes."""
    return len({cell["classes"] for cell in content["cells"] if "uar" in cell}) > 1


def cross_figure(content: dict[str, Any]) -> Any:
    """The heat map of `cross.json`."""
    cells, names = _by_pair(content), content["corpora"]

    def score(cell: dict[str, Any]) -> tuple[float, Any] | None:
        return (cell["uar"], cell["intervals"].get("uar")) if cell.get("uar") is not None else None

    return heat_map([[score(cells[train, test]) for test in names] for train in names], names, names)


def _label_map(data: DataArguments, classes: set[str]) -> dict[str, str]:
    """The flag `label_map` that also drops labels outside `classes`; empty where the configuration's map drops them."""
    given = data.parsed_label_map()
    labels = list_corpus(replace(data, label_map=None)).labels
    full = {label: new if (new := given.get(label, label)) in classes else None for label in labels}
    mapping = {label: new for label, new in full.items() if new != label}
    return {"label_map": json.dumps(mapping, ensure_ascii=False)} if mapping != given else {}


def _leaks(arm: Arm) -> list[str]:
    return read_results(arm.folder).get("audit", {}).get("leaks", [])


def _by_pair(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["train"], cell["test"]): cell for cell in content["cells"]}


def _cell_words(cell: dict[str, Any], with_classes: bool) -> str:
    if "uar" not in cell:
        return MISSING
    score = format_interval(cell["uar"], cell["intervals"].get("uar"))
    return f"{score} ({cell['classes']})" if with_classes else score


def _csv(cells: Sequence[dict[str, Any]]) -> str:
    known = ("classes", "n", "speakers", "why")
    rows: list[list[Any]] = [["train", "test", *score_columns(), *known]]
    rows += [[cell["train"], cell["test"], *score_cells(cell), *map(cell.get, known)] for cell in cells]
    return csv_text(rows)
