"""From files to one checked Dataset: 16 kHz mono clips with id, speaker, gender, emotion and duration.

    python data_prep.py configs/demo.yaml
    python data_prep.py configs/emodb_tiny.yaml --data_dir path/to/emodb/wav

Prepares a corpus, prints what it holds, and writes a page about it, `data.html`, into `output_dir`.
"""

import sys

from ser.progress import escape_unknown_letters, no_bars_in_files

if __name__ == "__main__":
    no_bars_in_files()  # before the imports below, which read the variable that it sets

import functools
import io
import json
import logging
import tempfile
import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import fsspec
import joblib
import numpy as np
import pyarrow as pa

from ser.data.audio import SAMPLING_RATE_HZ, checked_wave, encode_wav
from ser.data.corpora.problems import is_disk_full, read_problems, unusable, write_problem
from ser.data.corpora.recordings import Corpus, Recording
from ser.data.corpora.sources import source_of
from ser.data.corpora.table import list_corpus
from ser.data.data_arguments import DataArguments, read_data_arguments
from ser.data.summary import summary, warnings_of

logger = logging.getLogger(__name__)
# Part of the cache's key: raise it when a change of the code gives another Dataset for the same files.
_VERSION = datasets.Version("1.2.0")
# Small enough for a progress bar that moves and for a laptop's memory.
_CLIPS_PER_TABLE = 16


def load_corpus(args: DataArguments) -> datasets.Dataset:
    """Prepares a corpus, or takes it from the cache if its files and labels have not changed.

    Returns:
        One row for each clip, sorted by id: id, corpus, speaker, gender, emotion, transcript, ipa, duration (s),
        source_sampling_rate (Hz), audio (16 kHz mono WAV); split, session and target columns where the source
        has them; no emotion where it has numbers only. `ser.data.audio.corpus_facts` reads what else is known.

    Raises:
        ValueError, FileNotFoundError: A flag does not fit, or files cannot be used; the message lists all of them.
    """
    for words in warnings_of(dataset := _prepared(args)):
        logger.warning(words)
    return dataset


def _prepared(args: DataArguments) -> datasets.Dataset:
    if args.corpus == "shemo" and not args.corpora:
        options = asdict(args)
        del options["corpus"]
        builder = ShEMO(options.pop("label_source"), **options)
    else:
        builder = SpeechCorpus(args)
    builder.download_and_prepare(num_proc=args.num_proc or joblib.cpu_count())
    return builder.as_dataset(split="train")


class SpeechCorpus(datasets.ArrowBasedBuilder):
    """Decodes, resamples and stores the clips of a corpus, in parallel, once.

    It writes Arrow tables, because `datasets` needs torchcodec to encode audio example by example.

    Args:
        args: What to prepare, and where the cache is.
    """

    VERSION = _VERSION
    DEFAULT_WRITER_BATCH_SIZE = 100

    def __init__(self, args: DataArguments):
        self.corpus, self.skip_unreadable = list_corpus(args), args.skip_unreadable
        self.max_seconds = args.max_file_seconds
        bound = "" if self.max_seconds == DataArguments.max_file_seconds else f"-{self.max_seconds:g}"
        self._is_read_only = False
        try:
            super().__init__(
                cache_dir=args.cache_dir,
                dataset_name="ser_corpora" if args.corpora else f"ser_{args.corpus}",
                config_name=args.label_source if args.corpus == "shemo" and not args.corpora else "default",
                hash=f"{self.corpus.key()}{'-skip' * args.skip_unreadable}{bound}",
            )
        except OSError as error:
            self._open_read_only(error)

    def _open_read_only(self, error: OSError) -> None:
        """Goes on without the lock that `datasets` wants, if the corpus is in a cache that cannot be written.

        Raises:
            OSError: The corpus is not prepared yet.
        """
        if not Path(self._cache_dir, datasets.config.DATASET_INFO_FILENAME).is_file():
            raise OSError(f"--cache_dir: {error}. Prepare the corpus in a folder that can be written.") from None
        self.info = datasets.DatasetInfo.from_directory(self._cache_dir)
        # What the constructor sets after it has the lock.
        self._output_dir, self._fs, self._file_format = self._cache_dir, fsspec.filesystem("file"), None
        self._is_read_only = True

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As in `datasets`; it does nothing for a corpus that a read-only cache holds.

        Raises:
            OSError: There is no space left; and others, see [`load_corpus`].
        """
        if self._is_read_only:
            return
        try:
            super().download_and_prepare(*args, **kwargs)
        except (OSError, datasets.exceptions.DatasetGenerationError) as error:
            if is_disk_full(error):
                raise OSError(f"--cache_dir: no space is left for {self.cache_dir}; make some, or change it.") from None
            raise

    def _info(self) -> datasets.DatasetInfo:
        facts = self.corpus.facts
        return datasets.DatasetInfo(
            features=features_of(self.corpus),
            citation=facts.get("citation", ""),
            homepage=facts.get("homepage", ""),
            license=facts.get("licence", ""),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN, gen_kwargs={})]

    def _prepare_split(self, split_generator: datasets.SplitGenerator, **kwargs: Any) -> None:
        # Imported before the workers are forked, so that not every worker needs some seconds for it.
        import ser_model  # noqa: F401

        # A run that was killed leaves its files here; without this they would become part of the cache.
        for path in Path(self._output_dir).iterdir():
            path.unlink()
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as failures:
            corpus = self.corpus.fetch(Path(scratch)) if self.corpus.fetch else self.corpus
            total = len(corpus.recordings)
            split_generator.gen_kwargs = {
                "recordings": list(corpus.recordings),
                "corpus": replace(corpus, recordings=(), fetch=None),
                "failures": failures,
            }
            split_generator.split_info.num_examples = total  # the progress bar's end
            kwargs["num_proc"] = min(kwargs.get("num_proc") or 1, -(-total // _CLIPS_PER_TABLE))
            super()._prepare_split(split_generator, **kwargs)
            skipped = read_problems(Path(failures))
            wrong = unusable(skipped, total, [root for root in (corpus.root, *corpus.roots.values()) if root])
        if skipped and not self.skip_unreadable:
            raise ValueError(f"{wrong}\nRepair or remove them, or leave them out with --skip_unreadable true.")
        if len(skipped) == total:
            raise ValueError(f"No clip is left. {wrong}")
        self.info.description = json.dumps(corpus.all_facts(skipped), ensure_ascii=False)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> typing.NoReturn:
        """Refuses: clips are checked and decoded once, before any of them is used.

        Raises:
            NotImplementedError: Always; the message says what to do.
        """
        raise NotImplementedError(
            "This corpus must be prepared before it is read. Call download_and_prepare(), then "
            "as_dataset(split='train').to_iterable_dataset()."
        )

    def _generate_tables(
        self, recordings: list[Recording], corpus: Corpus, failures: str
    ) -> Iterator[tuple[int, pa.Table]]:
        for start in range(0, len(recordings), _CLIPS_PER_TABLE):
            rows = []
            for recording in recordings[start : start + _CLIPS_PER_TABLE]:
                try:
                    rows.append(row_of(recording, corpus, self.max_seconds))
                except (ValueError, OSError) as error:
                    write_problem(recording, error, Path(failures))
            if rows:
                yield start, pa.Table.from_pylist(rows, schema=self.info.features.arrow_schema)


class ShEMO(SpeechCorpus):
    """Sharif Emotional Speech Database: 3000 clips of Persian radio plays, 87 speakers, six emotions.

    Two configurations: `filename` takes the label from the letter in the file's name, `modified` takes the corrected
    label in `modified_shemo.json` (163 clips differ).

        builder = ShEMO("modified", data_dir="shemo")
        builder.download_and_prepare(num_proc=8)
        dataset = builder.as_dataset(split="train")

    Args:
        config_name: `filename` or `modified`.
        options: Fields of `DataArguments`: `data_dir` with the folders or the two zips (without it, they are
            downloaded), `modified_labels`, `label_map`, `skip_unreadable`, `max_clips`, `cache_dir`.
    """

    BUILDER_CONFIGS = (
        datasets.BuilderConfig("filename", _VERSION, description="label from the letter in the file name"),
        datasets.BuilderConfig("modified", _VERSION, description="label from modified_shemo.json"),
    )

    def __init__(self, config_name: str = "filename", **options: Any):
        super().__init__(DataArguments(corpus="shemo", label_source=config_name, **options))


def features_of(corpus: Corpus) -> datasets.Features:
    """The columns of a prepared corpus."""
    text, number = datasets.Value("string"), datasets.Value("float64")
    features = {"id": text, "corpus": text, "speaker": text, "gender": text}
    if corpus.labels:
        features["emotion"] = datasets.ClassLabel(names=list(corpus.labels))
    features |= {"transcript": text, "ipa": text, "duration": number, "source_sampling_rate": datasets.Value("int32")}
    features |= dict.fromkeys(corpus.target_columns, number)
    features |= {"split": text} if corpus.has_split else {}
    features |= {"session": text} if any(recording.session for recording in corpus.recordings) else {}
    return datasets.Features({**features, "audio": datasets.Audio(sampling_rate=SAMPLING_RATE_HZ)})


def row_of(recording: Recording, corpus: Corpus, max_seconds: float | None = None) -> dict[str, Any]:
    """Reads one recording of at most `max_seconds` and makes its row of the Dataset.

    Raises:
        ValueError, OSError: It cannot be used; the message says why.
    """
    import soundfile

    from ser_model import read_wave

    if recording.problem:
        raise ValueError(recording.problem)
    source = source_of(recording, corpus)
    if recording.segment:
        modified_ns = source.stat().st_mtime_ns if isinstance(source, Path) else 0
        whole = _whole_wave(source, recording.path, modified_ns, max_seconds)
        wave = checked_wave(recording.segment.cut(whole))
    else:
        wave = checked_wave(read_wave(source, recording.path, max_seconds=max_seconds))
    try:
        source_rate_hz = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else source).samplerate
    except soundfile.LibsndfileError:  # read by ffmpeg, which does not tell the rate
        source_rate_hz = None
    same = ("id", "corpus", "speaker", "gender", "transcript", "ipa", "split", "session")
    return {
        **{name: getattr(recording, name) for name in same},
        "emotion": corpus.labels.index(recording.emotion) if corpus.labels else None,
        "duration": len(wave) / SAMPLING_RATE_HZ,
        "source_sampling_rate": source_rate_hz,
        "audio": {"bytes": encode_wav(wave), "path": f"{recording.id}.wav"},
        **dict(zip(corpus.target_columns, recording.targets, strict=True)),
    }


@functools.lru_cache(maxsize=1)
def _whole_wave(source: Path | bytes, name: str, modified_ns: int, max_seconds: float | None) -> np.ndarray:
    """The wave of a recording with segments, kept for the next one: they follow each other, sorted by id."""
    from ser_model import read_wave

    return read_wave(source, name, max_seconds=max_seconds)


def main(argv: Sequence[str]) -> int:
    """Prepares the corpus of a configuration, prints what it holds, draws it and writes a page about it.

    Returns:
        The exit code: 0; 2 when that cannot be done.
    """
    escape_unknown_letters()
    try:
        args, output_dir = read_data_arguments(argv)
        dataset = _prepared(args)  # not load_corpus: its warnings are in the summary
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"data_prep.py: {error}", file=sys.stderr)
        return 2
    print(summary(dataset))
    # Only now, since they import matplotlib, and others import this module to load a corpus.
    from ser.exploration.class_section import write_class_plots
    from ser.exploration.data_page import write_data_page

    for path in write_class_plots(dataset, folder := Path(output_dir or "runs/data")):
        print(f"wrote {path}")
    if args.data_page is not False:
        print("data.html: clips are measured, the first time only (--data_page false leaves it out)", flush=True)
        print(f"wrote {write_data_page(dataset, folder, args)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
