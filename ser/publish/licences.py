"""Licences as the Hub names them: of a corpus, of a pretrained backbone, and of a model made from both."""

import re

# https://huggingface.co/docs/hub/repositories-licenses, those that data and models of speech come under.
_NAMES = (
    "apache-2.0 mit openrail bsd bsd-2-clause bsd-3-clause c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 "
    "etalab-2.0 eupl-1.2 agpl-3.0 gfdl gpl-2.0 gpl-3.0 lgpl-3.0 mpl-2.0 odc-by odbl pddl unlicense unknown other"
)
HUB_LICENCES = frozenset(_NAMES.split())
# Licences whose only condition on derived work is to name the source.
_PERMISSIVE = frozenset(("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense"))
# Families of backbones on the Hub, by the start of their names: licence, and what to cite.
_BACKBONES = (
    ("facebook/hubert-", "apache-2.0", "Hsu et al., HuBERT, arXiv 2106.07447."),
    ("facebook/wav2vec2-xls-r-", "apache-2.0", "Babu et al., XLS-R, arXiv 2111.09296."),
    ("facebook/wav2vec2-large-xlsr-53", "apache-2.0", "Conneau et al., XLSR, arXiv 2006.13979."),
    ("facebook/wav2vec2-", "apache-2.0", "Baevski et al., wav2vec 2.0, arXiv 2006.11477."),
    ("facebook/w2v-bert-2.0", "mit", "Seamless Communication et al., arXiv 2312.05187."),
    ("facebook/data2vec-audio-", "apache-2.0", "Baevski et al., data2vec, arXiv 2202.03555."),
    ("ntu-spml/distilhubert", "apache-2.0", "Chang et al., DistilHuBERT, arXiv 2110.01900."),
    ("openai/whisper-", "apache-2.0", "Radford et al., Whisper, arXiv 2212.04356."),
    ("microsoft/wavlm-", "cc-by-sa-3.0", "Chen et al., WavLM, arXiv 2110.13900."),
)


def hub_licence(text: str | None) -> str | None:
    """The Hub's name for a licence that is written out: `CC BY-NC-SA 4.0` is `cc-by-nc-sa-4.0`; None if it has none.

    >>> hub_licence("CC BY 4.0")
    'cc-by-4.0'
    """
    name = re.sub(r"[\s_-]+", "-", (text or "").strip().lower())
    name = {"cc0": "cc0-1.0", "apache": "apache-2.0", "apache-license-2.0": "apache-2.0"}.get(name, name)
    return name if name in HUB_LICENCES - {"other", "unknown"} else None


def backbone_facts(name: str) -> tuple[str | None, str | None]:
    """Licence (the Hub's name) and citation of a pretrained backbone; None where they are not known here."""
    return next(((licence, cite) for start, licence, cite in _BACKBONES if name.startswith(start)), (None, None))


def model_licence(corpus_licence: str | None, backbone: str | None) -> str:
    """The licence of a model trained on a corpus, from a backbone, or from scratch where that is None.

    A model is derived from the corpus and the backbone. It has the corpus's licence if the Hub has a name for it and
    the backbone adds no condition; else `other`, and the card names both licences.
    """
    own = hub_licence(corpus_licence)
    adds_none = backbone is None or backbone_facts(backbone)[0] in _PERMISSIVE
    return own if own and adds_none else "other"
