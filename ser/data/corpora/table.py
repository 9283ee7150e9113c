"""One small function for each corpus: from a folder or a manifest to a list of labelled recordings.

To add a corpus: a file here, a line in [`CORPORA`], from which `--corpus` takes its names, and a line with one of its
file names in `tests/data/test_named_corpora.py`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from ser.data.corpora import (
    cafe,
    crema_d,
    dataset,
    emodb,
    emovo,
    folder,
    iemocap,
    manifest,
    msp_podcast,
    ravdess,
    savee,
    shemo,
    synthetic,
    tess,
    urdu,
)
from ser.data.corpora.joined import join, prefixed
from ser.data.corpora.recordings import Corpus, also_after_fetch, with_options

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

CORPORA = {
    "shemo": shemo.shemo,
    "emodb": emodb.emodb,
    "ravdess": ravdess.ravdess,
    "crema_d": crema_d.crema_d,
    "tess": tess.tess,
    "savee": savee.savee,
    "iemocap": iemocap.iemocap,
    "msp_podcast": msp_podcast.msp_podcast,
    "urdu": urdu.urdu,
    "emovo": emovo.emovo,
    "cafe": cafe.cafe,
    "manifest": manifest.manifest,
    "folder": folder.folder,
    "dataset": dataset.dataset,
    "synthetic": synthetic.synthetic,
}


def list_corpus(args: "DataArguments") -> Corpus:
    """Lists the recordings of the corpora that `args` names, with labels merged and dropped as `--label_map` says.

    Raises:
        ValueError, FileNotFoundError: A flag is missing or does not fit, or there is no recording. Files that cannot
            be used come back as recordings with a `problem`.
    """
    entries, name = args.entries(), args.corpus_name()
    if entries:
        corpus = join({own: _entry(own, part, number) for number, (own, part) in enumerate(entries.items(), start=1)})
    else:
        corpus = also_after_fetch(CORPORA[args.corpus](args), lambda corpus: _named(corpus, name))
    corpus = with_options(corpus, args)
    if len(corpus.labels) < 2 and not corpus.target_columns:
        found = f"only the label {corpus.labels[0]!r}" if corpus.labels else "no label"
        what = "--corpora" if entries else args.corpus
        raise ValueError(f"{what}: there is {found}, and a classifier needs two; check the data and --label_map.")
    return corpus


def _entry(name: str, args: "DataArguments", number: int) -> Corpus:
    """One entry of `--corpora`, under its name."""
    try:
        corpus = with_options(CORPORA[args.corpus](args), args)
    except (ValueError, OSError, ImportError) as error:
        raise type(error)(f"--corpora, entry {number} ({name}): {error}") from None
    return prefixed(corpus, name, speakers=name if args.corpus in ("manifest", "folder", "dataset") else args.corpus)


def _named(corpus: Corpus, name: str) -> Corpus:
    return replace(corpus, recordings=tuple(replace(recording, corpus=name) for recording in corpus.recordings))
