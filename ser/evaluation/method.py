"""The paragraph "Method" of a paper, from `results.json`: what was trained, how it was tested, with which software."""

from collections.abc import Mapping
from typing import Any

from ser.evaluation import format as words

_SOFTWARE = ("ser", "torch", "transformers", "datasets", "scikit-learn")


def method_sentences(results: Mapping[str, Any]) -> list[str]:
    """Sentences on data, model, protocol, scores, hash of the split and versions, as far as the results know them."""
    sentences = (_data(results), _model(results), _protocol(results), _scores(results), _split(results), _made(results))
    return [sentence for sentence in sentences if sentence]


def _data(results: Mapping[str, Any]) -> str | None:
    corpus = results.get("corpus", {})
    if not corpus.get("clips"):
        return None
    labels = results.get("labels", [])
    kind = "dimensions" if results.get("task") == "regression" else "classes"
    speakers = f" of {words.format_count(corpus['speakers'])} speakers" if corpus.get("speakers") else ""
    hours = f" ({words.format_seconds(3600 * corpus['hours'])})" if corpus.get("hours") else ""
    named = f"{len(labels)} {kind} ({', '.join(map(str, labels))})"
    clips = f"{words.format_count(corpus['clips'])} clips{speakers}{hours}"
    return f"We used {clips} of the corpus {corpus.get('name')}, with {named}."


def _model(results: Mapping[str, Any]) -> str | None:
    model, config = results.get("model", {}), results.get("config", {})
    if not model.get("backbone"):
        return None
    if config.get("train_mode") == "probe":
        how = "was frozen, and a head was fitted on statistics of its hidden states"
    elif config.get("freeze_base_model"):
        how = "was frozen, and a head was trained on it"
    elif config.get("lora_rank"):
        how = f"was fine-tuned with LoRA of rank {config['lora_rank']}"
    else:
        how = "was trained together with a head"
    pooled = {"pooling": model.get("pooling"), "layers": model.get("layer_mix"), "loss": config.get("loss")}
    if config.get("train_mode") != "probe":
        pooled |= {"learning rate": config.get("learning_rate"), "epochs": config.get("num_train_epochs")}
    settings = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                         for name, value in pooled.items() if value is not None)  # fmt: skip
    return f"The encoder ({model['backbone']}{kept_layers(model)}) {how} ({settings})."


def _protocol(results: Mapping[str, Any]) -> str | None:
    protocol = results.get("protocol", {})
    if not protocol.get("name"):
        return None
    seeds = protocol.get("seeds") or []
    apart = (
        "; no speaker of a test set was in its training or development set"
        if protocol.get("speaker_independent")
        else "; speakers of test clips may have been in training"
    )
    once = f" Training was repeated with {len(seeds)} seeds." if len(seeds) > 1 else ""
    single = f" The seed was {seeds[0]}." if len(seeds) == 1 else ""
    return f"The protocol was {words.protocol_words(protocol)}{apart}.{once}{single}"


def _scores(results: Mapping[str, Any]) -> str | None:
    scores = results.get(words.part_of(dict(results)), {})
    if not scores.get("interval_method"):
        return None
    return f"Intervals are 95 % ({scores['interval_method']})."


def _split(results: Mapping[str, Any]) -> str | None:
    digest = results.get("protocol", {}).get("split_sha256")
    return f"The SHA-256 of the split is {digest}." if digest else None


def _made(results: Mapping[str, Any]) -> str | None:
    versions = results.get("versions", {})
    named = [f"{name} {versions[name]}" for name in _SOFTWARE if name in versions]
    return f"The software was {', '.join(named)}." if named else None


def no_baseline_words(results: Mapping[str, Any]) -> str:
    """How to compare with a baseline, where none was; empty for a regression, and where there is one."""
    if results.get("task") != "classification" or words.baselines_of(dict(results)):
        return ""
    return "No baseline was run on these clips. In the folder of the run, this makes one: ser baseline run_config.yaml"


def variance_words(results: Mapping[str, Any]) -> str:
    """How much the score depends on the seed of the training, beside how much it depends on the speakers."""
    key = "ccc" if results.get("task") == "regression" else "uar"
    by_seed = results.get("seeds", {}).get(key, {}).get("std")
    scores = results.get(words.part_of(dict(results)), {})
    interval = scores.get("intervals", {}).get(key)
    if by_seed is None or not interval or None in interval or scores.get("interval_unit") != "speaker":
        return ""
    # A 95 % interval is about four standard errors long.
    by_speaker = words.format_number((interval[1] - interval[0]) / 4)
    return (
        f"{words.TITLES[key]} differs by {words.format_number(by_seed)} between seeds (standard deviation), and by "
        f"{by_speaker} between draws of speakers (a quarter of the interval)."
    )


def kept_layers(model: Mapping[str, Any]) -> str:
    """What to add to the name of an encoder that was cut off behind the pooled layer; empty if it was not."""
    cut = model.get("layers_cut_off") or 0
    # Folds that chose layers 0 and 1 agree on what was cut off and not on the layer: both kept one.
    kept = max(1, int(model.get("layer_mix", 1))) if cut else 0
    return f", without the last {cut} of its {kept + cut} layers" if cut else ""
