"""One configuration trained under several settings, or under two protocols, on the same folds; the runs are compared
in pairs.

Each setting is an ordinary run in its own folder. A finished run is not made again.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser.data.data_arguments import DataArguments
from ser.evaluation.compare import compare, leak_gap
from ser.evaluation.format import SCORES, format_difference, format_interval, format_number, format_p
from ser.evaluation.text_tables import aligned, csv_text, score_cells, score_columns
from ser.experiments.settings import combinations, parse_settings
from ser.files import read_json, write_json, write_text
from ser.predictions import read_predictions
from ser.run_folder import SPLIT, claim_run_folder, fold_folders, is_finished, read_results
from ser.training.arguments import ModelArguments, SERTrainingArguments, merged_arguments, parse_arguments
from ser.training.choice import chosen_by_dev, dev_scores, holm

Parsed = tuple[ModelArguments, DataArguments, SERTrainingArguments]
Run = Callable[[ModelArguments, DataArguments, SERTrainingArguments], object]


@dataclass(frozen=True)
class Arm:
    """One of the runs that are compared.

    Attributes:
        name: What the table and the folder call it.
        flags: What it adds to the command line, by flag.
        arguments: The whole, parsed.
    """

    name: str
    flags: dict[str, str]
    arguments: Parsed

    @property
    def folder(self) -> Path:
        return Path(self.arguments[2].output_dir)


def ablate(argv: Sequence[str], over: Sequence[str], run: Run) -> dict[str, Any]:
    """Runs a configuration once for each combination of settings, and compares each of them with the first.

    Args:
        argv: What `run_ser.py` takes: `CONFIG [--flag value ...]`.
        over: Settings, `flag=value,value`; with several, every combination is run.
        run: Makes one run, or those of all folds and seeds: `run_ser.run_jobs`.

    Returns:
        The content of `ablation.json`, written beside `ablation.csv` into `<output_dir>-ablation`: `over`; `settings`,
        each with its `flags`, `folder`, `dev_uar` (mean over runs), `n`, `uar`, `accuracy`, `macro_f1` with
        `intervals`, and `difference` to the first (`uar`, `interval`, `p`, and `p_holm`, corrected for all of them;
        None for the first); `chosen_on_dev`, the name of the best by `dev_uar`; and `chosen_by_dev`, see
        [`ser.training.choice.chosen_by_dev`]. The last two are None where dev was not scored.

    Raises:
        ValueError: A setting cannot be parsed, or is no flag that an ablation may vary; nothing was trained.
    """
    values = parse_settings(over)
    base = parse_arguments(argv)
    folder = Path(f"{base[2].output_dir}-ablation")
    flags = combinations(values)
    arms = [make_arm(argv, folder, own) for own in flags]
    make_runs(arms, base, folder, run)
    content = {"over": values, **compared(arms)}
    write_json(content, folder / "ablation.json")
    write_text(_csv(content["settings"]), folder / "ablation.csv")
    return content


def compared(arms: Sequence[Arm]) -> dict[str, Any]:
    """The figures of [`ablate`], from finished runs."""
    tables = {arm.name: read_predictions(arm.folder) for arm in arms}
    first, settings = tables[arms[0].name], []
    for arm in arms:
        difference = None if arm is arms[0] else compare(tables[arm.name], first)["uar"]
        dev = list(dev_scores(tables[arm.name]).values())
        about = {"name": arm.name, "flags": arm.flags, "folder": arm.folder.name}
        settings.append({**about, "dev_uar": sum(dev) / len(dev) if dev else None, **_scores(arm, difference)})
    changes = [setting["difference"] for setting in settings if setting["difference"]]
    for change, p in zip(changes, holm([change["p"] for change in changes]), strict=True):
        change["p_holm"] = p
    scored_on_dev = [setting for setting in settings if setting["dev_uar"] is not None]
    best = (
        max(scored_on_dev, key=lambda setting: setting["dev_uar"])["name"]
        if len(scored_on_dev) == len(settings)
        else None
    )
    return {"settings": settings, "chosen_on_dev": best, "chosen_by_dev": chosen_by_dev(tables)}


def leak(argv: Sequence[str], run: Run, check: Run | None = None) -> dict[str, Any]:
    """Runs a configuration on folds of speakers and on random folds, and measures how much the random ones add.

    Both have `num_folds` folds of about the same sizes, every clip is tested once in each, and the training is the
    same. Only the random arm has shared speakers, which is what it is for.

    Args:
        argv: As for [`ablate`]; `protocol`, `fold` and `accept_speaker_leakage` are set here.
        run: As for [`ablate`].
        check: Raises an error for an arm that cannot run, before any arm starts: `run_ser.prepare`.

    Returns:
        The content of `leak.json`, written into `<output_dir>-leak`: `speaker_kfold` and `random_kfold` (`uar`,
        `intervals`, `n`, `clips` in train, dev and test of each fold), and `gap`, the random folds minus the speaker
        folds: `uar`, `interval`, `p`.

    Raises:
        ValueError: An argument is wrong, the task is a regression, or clips name no speaker.
    """
    base = parse_arguments(argv)
    folder, arms = Path(f"{base[2].output_dir}-leak"), []
    # Frozen folds fit only the protocol that they were made for; the other arm draws its own.
    keeps_file = base[1].splits_file and base[1].protocol == "speaker_kfold"
    for protocol, accepts in (("speaker_kfold", "false"), ("random_kfold", "true")):
        flags = {"protocol": protocol, "fold": "all", "accept_speaker_leakage": accepts}
        file = {} if keeps_file and protocol == "speaker_kfold" else {"splits_file": ""}
        arms.append(make_arm(argv, folder, flags | file, protocol))
    if check is not None:
        for arm in arms:
            check(*arm.arguments)
    print(
        "The random folds are trained with --accept_speaker_leakage true, because they share speakers on purpose.",
        flush=True,
    )
    make_runs(arms, base, folder, run)
    speakers, random = arms
    gap = leak_gap(read_predictions(speakers.folder), read_predictions(random.folder))["uar"]
    content = {
        **{arm.name: {**_scores(arm, None), "clips": _fold_sizes(arm.folder)} for arm in arms},
        "gap": {"uar": gap["difference"], "interval": gap["interval"], "p": gap["p_value"]},
    }
    write_json(content, folder / "leak.json")
    return content


def make_arm(argv: Sequence[str], folder: Path, flags: dict[str, str], name: str | None = None) -> Arm:
    """Parses the command line with `flags` added at its end, where they win, and a folder of its own below `folder`.

    Raises:
        ValueError: A value is not what its flag takes.
    """
    name = name or ", ".join(f"{flag}={_brief(value)}" for flag, value in flags.items())
    own = folder / name.replace(", ", "-").replace("/", "_")
    more = [f"--{flag}={value}" for flag, value in flags.items()]
    arguments = parse_arguments([*argv, *more, f"--output_dir={own}"])
    if arguments[1].parsed_target_columns():
        raise ValueError(
            "--target_columns: this is a regression, and only classifications can be compared in pairs; leave it out."
        )
    return Arm(name, flags, arguments)


def make_runs(arms: Sequence[Arm], base: Parsed, folder: Path, run: Run) -> None:
    """Makes the runs that are not finished yet.

    Raises:
        ValueError: `folder` holds runs of another configuration; none was made.
    """
    claim_run_folder(folder, merged_arguments(*base), base[2].overwrite)
    for number, arm in enumerate(arms, start=1):
        print(f"{number} of {len(arms)}: {arm.name}", flush=True)
        if is_finished(arm.folder):
            print(f"{arm.folder} is finished; it is not made again.", flush=True)
        else:
            run(*arm.arguments)


def ablation_table(content: dict[str, Any]) -> str:
    """The content of `ablation.json` as text: one line for each setting, the best on dev first, then the choice."""
    return "\n".join([*aligned(ablation_rows(content)), "", *_choice_words(content)])


def ablation_rows(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of that table, the header first."""
    header = ("setting", "dev UAR", "UAR", "accuracy", "difference in UAR to the first, p after Holm")
    rows: list[tuple[str, ...]] = [header]
    for setting in sorted(content["settings"], key=lambda setting: -(setting["dev_uar"] or 0)):
        scores = (format_interval(setting[key], setting["intervals"].get(key)) for key in ("uar", "accuracy"))
        change = setting["difference"]
        words = (
            f"{format_difference(change['uar'], change['interval'])}, {format_p(change['p_holm'])}" if change else ""
        )
        rows.append((setting["name"], format_number(setting["dev_uar"]), *scores, words))
    return rows


def _choice_words(content: dict[str, Any]) -> list[str]:
    """Which setting dev chooses, and what this choice scores on test."""
    chosen, worth = content["chosen_on_dev"], content["chosen_by_dev"]
    if chosen is None or worth is None:
        return ["Dev was not scored, so no setting is chosen here: a choice by test scores would make them too good."]
    runs = ", ".join(f"{name} in {count}" for name, count in worth["chosen"].items())
    return [
        f"Best on dev: {chosen}. Choose by dev; the best of several on test looks better than it is.",
        f"Chosen on each run's own dev ({runs}), test UAR is {format_interval(worth['uar'], worth['interval'])}.",
    ]


def leak_words(content: dict[str, Any]) -> str:
    """The content of `leak.json` as text."""
    lines = []
    for name, words in (("speaker_kfold", "speakers apart"), ("random_kfold", "speakers shared")):
        split = content[name]
        sizes = {part: _span(fold[part] for fold in split["clips"]) for part in ("train", "test")}
        score = format_interval(split["uar"], split["intervals"].get("uar"))
        lines.append(f"{words:<16} UAR {score}, train {sizes['train']}, test {sizes['test']} clips a fold")
    gap = content["gap"]
    found = f"{format_difference(gap['uar'], gap['interval'])}, {format_p(gap['p'])}"
    return "\n".join([*lines, f"{'the leak is worth':<16} {found}"])


def _scores(arm: Arm, change: dict[str, Any] | None) -> dict[str, Any]:
    test = _results(arm)["test"]
    difference = change and {"uar": change["difference"], "interval": change["interval"], "p": change["p_value"]}
    return {
        "n": test["n"],
        **{name: test[name] for name in SCORES},
        "intervals": {name: test["intervals"].get(name) for name in SCORES},
        "difference": difference,
    }


def _results(arm: Arm) -> dict[str, Any]:
    results = read_results(arm.folder)
    if "test" not in results:
        raise ValueError(f"{arm.folder}: the test set was not scored; run it with --do_predict true.")
    return results


def _fold_sizes(folder: Path) -> list[dict[str, int]]:
    """Clips in train, dev and test of each fold of a run."""
    splits = [read_json(fold / SPLIT) for fold in fold_folders(folder, SPLIT)]
    return [{part: len(split[part]) for part in ("train", "dev", "test")} for split in splits]


def _csv(settings: Sequence[dict[str, Any]]) -> str:
    differences = ("difference", "difference_low", "difference_high", "p", "p_holm")
    rows: list[list[Any]] = [[*settings[0]["flags"], "dev_uar", *score_columns(), *differences, "n"]]
    for setting in settings:
        change = setting["difference"] or {"uar": None, "interval": None, "p": None, "p_holm": None}
        changes = [change["uar"], *(change["interval"] or (None, None)), change["p"], change["p_holm"]]
        rows.append([*setting["flags"].values(), setting["dev_uar"], *score_cells(setting), *changes, setting["n"]])
    return csv_text(rows)


def _brief(value: str) -> str:
    """A value short enough for the name of a folder."""
    plain = all(letter.isalnum() or letter in "._-+" for letter in value)
    return value if plain and len(value) <= 40 else hashlib.sha256(value.encode()).hexdigest()[:8]


def _span(numbers: Any) -> str:
    found = sorted(set(numbers))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}-{found[-1]}"
