"""Puts a prepared corpus on the Hub: Parquet with playable clips, a card, and one configuration per fold.

Each clip is stored once. Clips that are in the same part of every fold share a file, so a configuration is a list of
files: with five folds, five files serve five configurations.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ser.data.audio import SAMPLING_RATE_HZ, corpus_facts
from ser.data.audit import what_is_wrong
from ser.data.clips import SPLITS, read_clips
from ser.data.data_arguments import DataArguments
from ser.data.splits import Split, check_split, make_split, num_folds_of
from ser.evaluation import format as words
from ser.publish.card import languages, slug
from ser.publish.card_sections import AI_ACT
from ser.publish.hub import check_repo_id, commit_folder, stored_token
from ser.publish.licences import HUB_LICENCES, hub_licence
from ser.publish.markdown import bullets, safe, table
from ser.publish.privacy import private_paths, what_is_private, without_paths

_TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md"
_MAX_FILE_BYTES = 400_000_000
_ROWS_PER_GROUP = 100  # the Hub's viewer reads a group at a time
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "id": "name of the clip",
    "corpus": "where it is from",
    "session": "session it was recorded in",
    "speaker": "who speaks",
    "gender": "female or male",
    "emotion": "label",
    "transcript": "what is said",
    "ipa": "what is said, in the International Phonetic Alphabet",
    "duration": "length in seconds",
    "source_sampling_rate": "rate of the original recording in Hz",
    "split": "part that the source puts it in",
    "audio": "16 kHz, mono, 16 bits",
}


def push_dataset(
    dataset: Any,
    args: DataArguments,
    repo_id: str,
    licence: str | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> str | None:
    """Puts a prepared corpus on the Hub in one commit; prints each step.

    Args:
        dataset: What `data_prep.load_corpus` returned.
        args: The arguments it was prepared with; protocol and folds are used too.
        repo_id: `user/name`; made if it is not there.
        licence: Licence of the copy, as the Hub names it; needed where the corpus names none.
        private: Whether a new repository is private.
        dry_run: Stops before anything leaves the machine.

    Returns:
        The address of the repository; None for a dry run.

    Raises:
        ValueError: No licence allows a public copy, the split leaks, or `repo_id` is not a repository name.
        OSError: The Hub refused or could not be reached.
    """
    check_repo_id(repo_id)
    licence = public_licence(corpus_facts(dataset), licence, private)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        configs = stage_dataset(dataset, args, folder, repo_id, licence)
        check_folder(folder, configs, args)
        print(f"{len(dataset)} clips; configurations: {', '.join(configs)}", flush=True)
        if dry_run:
            print("dry run: nothing was pushed.")
            return None
        address = commit_folder(folder, repo_id, "dataset", private)
    print(f"pushed to {address}")
    return address


def public_licence(facts: Mapping[str, Any], licence: str | None, private: bool) -> str:
    """The licence for the card, as the Hub names it.

    Raises:
        ValueError: The Hub does not know the name, or the copy is public and no licence is known.
    """
    if licence is not None and licence not in HUB_LICENCES:
        raise ValueError(f"--licence: {licence!r} is not one of {', '.join(sorted(HUB_LICENCES))}.")
    found = licence or hub_licence(facts.get("licence"))
    if found is None and not private:
        raise ValueError(
            f"{facts.get('name')}: its licence is {facts.get('licence') or 'not known'}, which does not say "
            "that copies are allowed. Push with --private, or, if you may publish it, name the licence with --licence."
        )
    return found or "other"


def stage_dataset(
    dataset: Any, args: DataArguments, folder: Path, repo_id: str, licence: str
) -> dict[str, dict[str, list[str]]]:
    """Writes Parquet files and the card into an empty folder.

    Returns:
        Names of the files of each part of each configuration.

    Raises:
        ValueError: The split cannot be made, or leaks and that was not accepted.
    """
    columns = columns_of(dataset)
    splits = splits_of(dataset, args)
    groups = defaultdict(list)
    row_of = {clip: row for row, clip in enumerate(columns["id"])}
    parts = [{clip: part for part, ids in split.parts.items() for clip in ids} for split in splits]
    for clip, row in row_of.items():
        groups[tuple(part_of.get(clip) for part_of in parts)].append(row)
    configs: dict[str, dict[str, list[Any]]] = {name: {part: [] for part in SPLITS} for name in _config_names(splits)}
    configs["all"] = {"train": []}
    (folder / "data").mkdir()
    for number, (where, rows) in enumerate(sorted(groups.items(), key=lambda item: item[1])):
        files = _write_files(dataset.select(rows), folder, number)
        configs["all"]["train"] += files
        for name, part in zip(_config_names(splits), where, strict=True):
            if part is not None:
                configs[name][part] += files
    card = dataset_card(dataset, columns, splits, configs, {"repo_id": repo_id, "licence": licence})
    paths = private_paths(folder, asdict(args))
    (folder / "README.md").write_text(without_paths(card, paths), encoding="utf-8")
    return configs


def columns_of(dataset: Any) -> dict[str, list]:
    """The columns that the card describes."""
    clips = {clip.id: clip for clip in read_clips(dataset)}
    ids = [str(clip) for clip in dataset["id"]]
    names = ("speaker", "gender", "emotion", "split", "session", "corpus")
    return {"id": ids, **{name: [getattr(clips[clip], name) for clip in ids] for name in names}}


def splits_of(dataset: Any, args: DataArguments) -> list[Split]:
    """All folds of the protocol, with the checks of training."""
    splits = []
    for fold in range(num_folds_of(args.protocol, dataset, args.num_folds)):
        split = make_split(dataset, args.protocol, fold, args.num_folds, args.split_seed, args.splits_file)
        check_split(split, dataset, args.accept_speaker_leakage, args.accept_near_copies)
        splits.append(split)
    return splits


def check_folder(folder: Path, configs: Mapping[str, Mapping[str, Sequence[str]]], args: DataArguments) -> None:
    """Checks that the files are what the card says and that no folder of this machine is named.

    Raises:
        ValueError: A part of a configuration is empty, a file lacks the audio feature, or a folder is named.
    """
    import pyarrow.parquet as pq
    import yaml
    from huggingface_hub import DatasetCard

    text = (folder / "README.md").read_text(encoding="utf-8")
    if found := what_is_private(text.encode(), "README.md", private_paths(folder, asdict(args)), stored_token()):
        raise ValueError(f"{found}; change data_dir or manifest of the corpus.")
    try:
        data = DatasetCard(text).data
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"README.md: its metadata cannot be read ({error}).") from None
    if data.license not in HUB_LICENCES:
        raise ValueError(f"README.md: license is {data.license!r}, which the Hub does not know.")
    for name, parts in configs.items():
        for part, files in parts.items():
            if not sum(pq.read_metadata(folder / file).num_rows for file in files):
                raise ValueError(f"Configuration {name}: {part} holds no clip; use another protocol or more clips.")
    for file in configs["all"]["train"]:
        features = json.loads(pq.read_schema(folder / file).metadata[b"huggingface"])["info"]["features"]
        if features["audio"]["_type"] != "Audio":
            raise ValueError(f"{file}: its column audio would not play on the Hub.")


def dataset_card(
    dataset: Any,
    columns: Mapping[str, list],
    splits: Sequence[Split],
    configs: Mapping[str, Mapping[str, Sequence[str]]],
    given: Mapping[str, str],
) -> str:
    """The card, with the configurations in its metadata.

    Args:
        dataset: The corpus.
        columns: The result of `columns_of`.
        splits: The folds.
        configs: Names of the files of each part of each configuration.
        given: `repo_id`, and `licence` as the Hub names it.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    facts = corpus_facts(dataset)
    first = next(iter(configs))
    data = DatasetCardData(
        language=languages(facts.get("language")),
        license=given["licence"],
        task_categories=["audio-classification"],
        pretty_name=facts.get("name"),
        size_categories=[next((size for most, size in _SIZES if len(dataset) < most), "n>1T")],
        tags=["speech-emotion-recognition", slug(facts.get("name") or "corpus")],
        configs=[_config_entry(name, parts, name == first) for name, parts in configs.items()],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        title=safe(facts.get("name") or given["repo_id"]),
        repo_id=given["repo_id"],
        config=first,
        summary=_summary(dataset, columns),
        columns=table(["column", "what it holds"], _column_rows(dataset), align="---"),
        classes=_classes(dataset),
        splits=_split_words(dataset, splits),
        licence=_licence_words(facts, given["licence"]),
        citation=safe(facts.get("citation") or "The corpus names none."),
        law=AI_ACT,
    )
    return str(card)


def _config_names(splits: Sequence[Split]) -> list[str]:
    return ["default"] if len(splits) == 1 else [f"fold-{split.fold}" for split in splits]


def _config_entry(name: str, parts: Mapping[str, Sequence[str]], is_default: bool) -> dict[str, Any]:
    files = [{"split": part, "path": list(paths)} for part, paths in parts.items()]
    return {"config_name": name, **({"default": True} if is_default else {}), "data_files": files}


def _write_files(rows: Any, folder: Path, number: int) -> list[str]:
    """Writes rows as one Parquet file, or several where they hold more than `_MAX_FILE_BYTES` of audio."""
    size = 2 * SAMPLING_RATE_HZ * sum(rows["duration"])
    count = min(len(rows), int(size // _MAX_FILE_BYTES) + 1)
    names = [f"data/part-{number:03d}" + (f"-{shard:03d}" if count > 1 else "") + ".parquet" for shard in range(count)]
    for shard, name in enumerate(names):
        rows.shard(count, shard, contiguous=True).to_parquet(folder / name, batch_size=_ROWS_PER_GROUP)
    return names


def _summary(dataset: Any, columns: Mapping[str, list]) -> str:
    speakers = len(set(columns["speaker"]) - {None})
    voices = f" of {words.format_count(speakers)} speakers" if speakers else ", whose speakers are not known"
    hours = words.format_seconds(sum(dataset["duration"]))
    return f"{words.format_count(len(dataset))} clips{voices}, {hours} in all."


def _column_rows(dataset: Any) -> list[list[str]]:
    return [[f"`{name}`" if name in _COLUMNS else safe(name), _COLUMNS.get(name, "value")] for name in dataset.features]


def _classes(dataset: Any) -> str:
    """Clips and seconds of each class; nothing for a corpus of numbers."""
    if "emotion" not in dataset.features:
        return ""
    names, seconds = dataset.features["emotion"].names, Counter[int]()
    for label, duration in zip(dataset["emotion"], dataset["duration"], strict=True):
        seconds[label] += duration
    counts = Counter(dataset["emotion"])
    rows = [[safe(n), words.format_count(counts[i]), words.format_number(seconds[i], 1)] for i, n in enumerate(names)]
    return table(["class", "clips", "seconds"], rows)


def _split_words(dataset: Any, splits: Sequence[Split]) -> str:
    independent = all(split.speaker_independent for split in splits)
    protocol = {"name": splits[0].protocol, "speaker_independent": independent, "num_folds": len(splits)}
    faults = []
    for split in splits:
        where = f"fold {split.fold}: " if len(splits) > 1 else ""
        faults += [where + fault for fault in what_is_wrong(split, dataset)]
    lines = [
        f"Protocol: {safe(words.protocol_words(protocol))}, seed {splits[0].seed}.",
        "`all` holds every clip in one part, `train`." if len(splits) == 1 else None,
        f"`fold-0` to `fold-{len(splits) - 1}` hold the clips as `train`, `dev` and `test` of each fold; `all` holds "
        "every clip in one part, `train`."
        if len(splits) > 1
        else None,
        *(f"Note: {safe(fault)}" for fault in faults),
    ]
    return bullets(lines)


def _licence_words(facts: Mapping[str, Any], licence: str) -> str:
    own = f"The corpus says of its licence: {safe(facts['licence'])}." if facts.get("licence") else ""
    home = f" Its home: {safe(facts['homepage'])}" if facts.get("homepage") else ""
    return f"{own or 'The corpus names no licence.'} This copy: `{licence}`.{home}"
