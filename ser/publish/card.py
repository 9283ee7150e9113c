"""The model card: `README.md` of a run, made from its `results.json` with huggingface_hub's own tools."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser.evaluation import format as words
from ser.evaluation.bibliography import bibtex_of
from ser.evaluation.diagnosis import diagnose
from ser.files import draft_of, read_json
from ser.publish import card_sections as sections
from ser.publish import card_tables
from ser.publish.licences import HUB_LICENCES, model_licence
from ser.publish.markdown import safe
from ser.run_folder import CARD, MODEL_CONFIG, RESULTS, has_model, read_log, read_results

TASK = "audio-classification"
_TEMPLATE = Path(__file__).parent / "templates" / "card.md"
_LANGUAGES = {"fa": "Persian", "de": "German", "en": "English", "fr": "French", "it": "Italian", "ur": "Urdu"}
# Metrics of https://hf.co/metrics that the scores are, under their own names.
_METRICS = {
    "uar": ("recall", {"average": "macro"}),
    "accuracy": ("accuracy", None),
    "macro_f1": ("f1", {"average": "macro"}),
    "ccc": ("ccc", None),
}


def write_card(run_dir: Path, repo_id: str | None = None) -> Path:
    """Writes `README.md` into the folder of a run.

    Args:
        run_dir: Folder with `results.json` and `config.json`; the PNG files that lie there are shown.
        repo_id: What the example loads; a placeholder by default.

    Raises:
        FileNotFoundError, ValueError: There are no results.
    """
    run_dir = Path(run_dir)
    results, log = read_results(run_dir), read_log(run_dir)
    is_ours = not has_model(run_dir) or read_json(run_dir / MODEL_CONFIG).get("model_type") == "ser"
    digest = hashlib.sha256((run_dir / RESULTS).read_bytes()).hexdigest()
    card = make_card(results, repo_id, digest, [path.name for path in run_dir.glob("*.png")], is_ours, log)
    with draft_of(run_dir / CARD) as draft:
        card.save(draft)
    return run_dir / CARD


def make_card(
    results: Mapping[str, Any],
    repo_id: str | None = None,
    sha256: str | None = None,
    plots: Sequence[str] = (),
    is_ours: bool = True,
    log: Sequence[Mapping[str, Any]] = (),
) -> Any:
    """Makes the card of a run.

    Args:
        results: The content of `results.json`.
        repo_id: What the example loads: a repository of the Hub.
        sha256: Hash of `results.json`.
        plots: Names of the PNG files beside it.
        is_ours: Whether the model needs `ser_model.py`; else it is a class of transformers.
        log: The content of `training_log.json`.

    Returns:
        `huggingface_hub.ModelCard`.
    """
    from huggingface_hub import ModelCard

    from ser.evaluation.figures import folds_of_robustness, robustness_rows

    backbone = pretrained_backbone(results)
    data = card_data(results, (repo_id or "speech-emotion-recognition").split("/")[-1])
    return ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        title=_title(results),
        purpose=sections.purpose(results),
        headline=safe(words.headline(results)),
        setting=sections.setting(results, diagnose(results, log)),
        repo_id=repo_id or "path/to/this/folder",
        trust=", trust_remote_code=True" if is_ours else "",
        second_call='"call.mp3", timeline=True' if is_ours else '"clip.wav", top_k=1',
        usage=sections.usage(results, is_ours),
        scores=sections.scores(results),
        baselines=card_tables.baselines(results),
        how_to_read=sections.how_to_read(results),
        classes=sections.classes(results),
        corpora=card_tables.corpora(results),
        plots=sections.plots(plots),
        more_plots=sections.more_plots(plots),
        protocol=sections.protocol(results),
        fails=sections.fails(results),
        robustness=sections.robustness(robustness_rows(results), folds_of_robustness(results)),
        limits=sections.limits(results),
        licences=sections.licences(results, data.license, backbone, is_ours),
        citation=sections.citation(results, backbone),
        bibtex=bibtex_of(results).replace("`", "'"),  # no text of the data may end the block
        source=sections.source(results, sha256),
    )


def card_data(results: Mapping[str, Any], model_name: str) -> Any:
    """The metadata of the card: `huggingface_hub.ModelCardData`, which the Hub searches and ranks by."""
    from huggingface_hub import ModelCardData

    corpus, backbone = results.get("corpus", {}), pretrained_backbone(results)
    dependent = [] if sections.is_independent(results) else [sections.SPEAKER_DEPENDENT]
    return ModelCardData(
        pipeline_tag=TASK,
        library_name="transformers",
        language=languages(corpus.get("language")),
        license=model_licence(corpus.get("licence"), backbone),
        datasets=[slug(name) for name in corpus_names(corpus)] or None,
        base_model=backbone,
        metrics=[_METRICS[key][0] for key in _METRICS if key in results.get("test", {})] or None,
        tags=["speech", "speech-emotion-recognition", *dependent],
        model_name=model_name,
        eval_results=_eval_results(results) or None,
    )


def pretrained_backbone(results: Mapping[str, Any]) -> str | None:
    """The repository of the backbone on the Hub; None for one made from scratch or loaded from a folder."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = results.get("model", {}).get("backbone") or ""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name if "/" in name and not Path(name).exists() else None


def languages(text: str | None) -> str | list[str] | None:
    """Codes of languages as the Hub takes them: one, or a list of those of several corpora."""
    return text.split(", ") if text and ", " in text else text


def corpus_names(corpus: Mapping[str, Any]) -> list[str]:
    """The names of the corpora behind a run, each once; empty where none is known."""
    names = [own.get("name") for own in corpus.get("corpora", {}).values()] or [corpus.get("name")]
    return list(dict.fromkeys(name for name in names if name))


def slug(name: str) -> str:
    """A name as a part of a dataset's address: lower case letters, digits, `-`, `.` and `_`."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "corpus"


def check_card(text: str, results: Mapping[str, Any]) -> None:
    """Checks what the Hub would refuse or misread, without asking it, and that the card says what the results say.

    Args:
        text: The card.
        results: The content of `results.json`.

    Raises:
        ValueError: The metadata are not YAML, a value is not one that the Hub knows, or a figure differs. The
            message names the key.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(text).data
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{CARD}: its metadata cannot be read ({' '.join(str(error).split())}).") from None
    for key, expected in (("pipeline_tag", (TASK,)), ("license", HUB_LICENCES)):
        if data.get(key) not in expected:
            raise ValueError(f"{CARD}: {key} is {data.get(key)!r}, expected {_listed(expected)}.")
    language = data.get("language")
    codes = language if isinstance(language, list) else [language]
    if language is not None and not all(re.fullmatch(r"[a-z]{2,3}", str(code)) for code in codes):
        raise ValueError(f"{CARD}: language is {language!r}, expected an ISO 639 code such as fa.")
    if not sections.is_independent(results) and (
        sections.SPEAKER_DEPENDENT not in text or sections.SPEAKER_DEPENDENT not in (data.get("tags") or [])
    ):
        raise ValueError(f"{CARD}: does not say {sections.SPEAKER_DEPENDENT}, which these results are.")
    if safe(words.headline(results)) not in text:
        raise ValueError(f"{CARD}: does not hold the headline of results.json, {words.headline(results)!r}.")
    given = {metric.metric_name: metric.metric_value for metric in data.get("eval_results") or []}
    wanted = {metric.metric_name: metric.metric_value for metric in _eval_results(results)}
    if given != wanted:
        raise ValueError(f"{CARD}: model-index says {given}, results.json {wanted}.")


def _eval_results(results: Mapping[str, Any]) -> list[Any]:
    """The scores of test under the name of the protocol, as the Hub's `model-index` takes them."""
    from huggingface_hub import EvalResult

    corpus, protocol = results.get("corpus", {}), results.get("protocol", {})
    name = corpus.get("name") or "not named"
    return [
        EvalResult(
            task_type=TASK,
            task_name="Speech Emotion Recognition",
            dataset_type=slug(name),
            dataset_name=f"{name}, {words.setting_of(results)}",
            dataset_config=protocol.get("name"),
            dataset_split="test",
            metric_type=kind,
            metric_name=words.LONG_TITLES[key],
            metric_args=arguments,
            metric_value=round(results["test"][key], words.DIGITS),
        )
        for key, (kind, arguments) in _METRICS.items()
        if results.get("test", {}).get(key) is not None
    ]


def _title(results: Mapping[str, Any]) -> str:
    codes = (results.get("corpus", {}).get("language") or "").split(", ")
    names = " and ".join(_LANGUAGES.get(code, safe(code)) for code in codes if code)
    return "Speech emotion recognition" + (f", {names}" if names else "")


def _listed(names: Any) -> str:
    names = sorted(names)
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
