"""Files to one checked Dataset: 16 kHz mono clips with id, speaker, gender, emotion and duration.

python data_prep.py configs/emodb_tiny.yaml --data_dir emodb/wav
python data_prep.py configs/demo.yaml
"""

import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ser.data.arguments import DataArguments
from ser.data.audio import SAMPLING_RATE_HZ, checked_wave, encode_wav
from ser.data.corpora import Clip, Corpus, list_corpus

logger = logging.getLogger(__name__)
# Part of the cache's key: raise it when the same files would give another Dataset.
VERSION = datasets.Version("1.0.0")
# Small enough for a progress bar that moves and for the memory of a laptop.
_CLIPS_PER_TABLE = 16


def load_corpus(args: DataArguments) -> datasets.Dataset:
    """Prepares a corpus, or takes it from the cache if its files and labels are the same as then.

    Returns:
        One row a clip, sorted by id: id, speaker, gender, emotion, transcript, ipa, duration (s),
        source_sampling_rate (Hz), audio (16 kHz mono PCM_16 WAV); split and target columns where the source has them.
        `ser.data.audio.corpus_facts` tells the rest.

    Raises:
        ValueError, FileNotFoundError: A flag does not fit, or files cannot be used; all of them are listed at once.
    """
    builder = SpeechCorpus(list_corpus(args), args.skip_unreadable, cache_dir=args.cache_dir)
    builder.download_and_prepare(num_proc=args.num_proc or os.cpu_count())
    return builder.as_dataset(split="train")


class SpeechCorpus(datasets.ArrowBasedBuilder):
    """Decodes, resamples and stores the clips of a corpus, in parallel, once.

    An Arrow based builder writes finished tables; the example-wise kind imports torchcodec to encode audio.
    """

    DEFAULT_WRITER_BATCH_SIZE = 100

    def __init__(self, corpus: Corpus, skip_unreadable: bool = False, cache_dir: str | None = None):
        self.corpus, self.skip_unreadable = corpus, skip_unreadable
        key = f"{corpus.key()}{'-skip' if skip_unreadable else ''}"
        name = f"ser_{corpus.facts['name'].lower().replace('-', '')}"
        super().__init__(cache_dir=cache_dir, dataset_name=name, hash=key, version=VERSION)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=features_of(self.corpus))

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        # What a killed run left behind.
        for path in Path(self._output_dir).iterdir():
            path.unlink()
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN, gen_kwargs={})]

    def _prepare_split(self, split_generator: datasets.SplitGenerator, **kwargs) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            corpus, failures = self.corpus, Path(scratch) / "failures"
            failures.mkdir()
            if corpus.fetch:
                corpus = corpus.fetch(Path(scratch))
            split_generator.gen_kwargs = {
                "clips": list(corpus.clips),
                "root": str(corpus.root.resolve()),
                "failures": str(failures),
            }
            # The workers read; let them be forked with the reader's 5 seconds of imports behind them.
            import ser_model  # noqa: F401

            super()._prepare_split(split_generator, **kwargs)
            skipped = [json.loads(path.read_text()) for path in sorted(failures.iterdir())]
        if skipped and not self.skip_unreadable:
            raise ValueError(unusable(skipped, len(corpus.clips)))
        if len(skipped) == len(corpus.clips):
            raise ValueError(f"No clip is left: {unusable(skipped, len(corpus.clips))}")
        self.info.description = json.dumps({**corpus.facts, "skipped": skipped}, ensure_ascii=False)

    def _generate_tables(self, clips: list[Clip], root: str, failures: str) -> Iterator[tuple[int, pa.Table]]:
        schema = self.info.features.arrow_schema
        for start in range(0, len(clips), _CLIPS_PER_TABLE):
            rows = []
            for clip in clips[start : start + _CLIPS_PER_TABLE]:
                try:
                    rows.append(row_of(clip, self.corpus, Path(root)))
                except (ValueError, OSError) as error:
                    _note(clip, error, failures)
            if rows:
                yield start, pa.Table.from_pylist(rows, schema=schema)


def features_of(corpus: Corpus) -> datasets.Features:
    """The columns of a prepared corpus."""
    text = datasets.Value("string")
    features = {"id": text, "speaker": text, "gender": text}
    if corpus.labels:
        features["emotion"] = datasets.ClassLabel(names=list(corpus.labels))
    features |= {"transcript": text, "ipa": text, "duration": datasets.Value("float64")}
    features |= {"source_sampling_rate": datasets.Value("int32")}
    features |= {name: datasets.Value("float64") for name in corpus.target_columns}
    features |= {"split": text} if corpus.has_split else {}
    return datasets.Features({**features, "audio": datasets.Audio(sampling_rate=SAMPLING_RATE_HZ)})


def row_of(clip: Clip, corpus: Corpus, root: Path) -> dict[str, Any]:
    """Reads one clip from the disk.

    Raises:
        ValueError, OSError: It cannot be used; the message says why.
    """
    import soundfile

    from ser_model import read_wave

    if clip.problem:
        raise ValueError(clip.problem)
    path = root / clip.path
    source = _member(root / clip.archive, clip.path) if clip.archive else path
    wave = checked_wave(read_wave(source, clip.path))
    try:
        source_rate_hz = soundfile.info(io.BytesIO(source) if clip.archive else path).samplerate
    except soundfile.LibsndfileError:
        source_rate_hz = None
    row = {name: getattr(clip, name) for name in ("id", "speaker", "gender", "transcript", "ipa", "split")}
    return {
        **row,
        "emotion": corpus.labels.index(clip.emotion) if corpus.labels else None,
        "duration": len(wave) / SAMPLING_RATE_HZ,
        "source_sampling_rate": source_rate_hz,
        "audio": {"bytes": encode_wav(wave), "path": f"{clip.id}.wav"},
        **dict(zip(corpus.target_columns, clip.targets, strict=False)),
    }


def unusable(skipped: list[dict[str, str]], total: int) -> str:
    """Lists the files that cannot be used, each with its reason."""
    lines = "".join(f"\n  {clip['path']}: {clip['reason']}" for clip in skipped)
    return (
        f"{len(skipped)} of {total} files cannot be used:{lines}\n"
        "Repair or remove them, or leave them out with --skip_unreadable true."
    )


def _member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as file:
        return file.read(name)


def _note(clip: Clip, error: Exception, folder: str) -> None:
    # A path stands first in the reader's messages, and in the list that these end up in.
    reason = str(error).removeprefix(f"{clip.path}: ")
    handle, _ = tempfile.mkstemp(prefix=f"{clip.id.replace('/', ' ')} ", dir=folder)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump({"id": clip.id, "path": clip.path, "reason": reason}, file, ensure_ascii=False)
