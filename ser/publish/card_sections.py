"""The sections of the model card: from `results.json` to Markdown, with every text of the data made safe."""

from collections.abc import Mapping, Sequence
from typing import Any

from ser.evaluation import format as words
from ser.evaluation.calibration_words import sentence_on_scores, sentence_on_threshold
from ser.evaluation.diagnosis import Diagnosis
from ser.evaluation.method import kept_layers
from ser.publish.licences import backbone_facts, hub_licence
from ser.publish.markdown import bullets, paragraphs, safe, table

Results = Mapping[str, Any]
SPEAKER_DEPENDENT = "speaker-dependent"
_PLOTS = {
    "confusion_matrix": "Confusion matrix: rows are the true class, columns the predicted one",
    "reliability": "Reliability diagram: share that is right against confidence",
    "risk_coverage": "Accuracy against the share of clips answered",
    "layers": "UAR or CCC of a linear model on each layer of the encoder, by cross-validation inside train",
    "speakers": "UAR of each test speaker, with intervals",
    "robustness": "UAR under noise, codecs and other changes",
    "training_curves": "Loss and dev score over the epochs of training",
}
_FIRST_PLOTS = 2
AI_ACT = (
    "The law limits this kind of system in places. In the European Union, Article 5(1)(f) of Regulation (EU) 2024/1689 "
    "(the AI Act), applied since 2 February 2025, prohibits placing on the market, putting into service for this "
    "purpose, or using AI systems that infer emotions of natural persons in the areas of workplace and education "
    "institutions, except where intended for medical or safety reasons. Its Annex III names emotion recognition among "
    "high-risk uses, and Article 50(3) asks that the people exposed to it be informed. A voice is personal data, and "
    "elsewhere other rules apply. This is no legal advice: ask before you use it on people."
)


def is_regression(results: Results) -> bool:
    """Whether the model gives numbers (valence, arousal, ...) and no classes."""
    return results.get("task") == "regression"


def is_independent(results: Results) -> bool:
    """Whether no test speaker was heard in training; false where nobody knows."""
    return results.get("protocol", {}).get("speaker_independent") is True


def purpose(results: Results) -> str:
    """What the model does, in a sentence."""
    names = [f"**{safe(label)}**" for label in results.get("labels", [])]
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
    model = safe(results.get("model", {}).get("backbone") or "a speech encoder") + kept_layers(results.get("model", {}))
    if is_regression(results):
        return f"Rates how a recording of speech sounds: {', '.join(names)}. Made from {model}."
    return f"Says whether a recording of speech sounds like {listed}. Made from {model}."


def setting(results: Results, diagnosis: Diagnosis | None = None) -> str:
    """On what the headline was measured, what to compare it with, and what is wrong with the run."""
    part = "test" if "test" in results else "dev"
    scores, chance = results.get(part, {}), results.get("chance", {}).get("uar")
    clusters = f" of {scores.get('clusters')} speakers" if scores.get("interval_unit") == "speaker" else ""
    text = f"Measured on {words.format_count(scores.get('n'))} {part} clips{clusters} (corpus: {_corpus_name(results)})"
    text += f"; guessing gives a UAR of {words.format_number(chance)}." if chance is not None else "."
    verdict = words.verdict_of(results)
    warning = (
        None
        if is_independent(results)
        else f"This result is {SPEAKER_DEPENDENT}: speakers of the test clips may have been in training. "
        "Expect lower scores for new speakers."
    )
    wrong = None
    if diagnosis:
        wrong = f"> **{safe(diagnosis.finding)}** Likely causes:\n>\n" + "\n".join(
            f"> {k}. {safe(cause)}" for k, cause in enumerate(diagnosis.causes, 1)
        )
    whose = words.whose_scores(results) or None
    caution = f"> **{warning}**" if warning else None
    return paragraphs(wrong, caution, text, whose, safe(verdict.text) if verdict else None)


def usage(results: Results, is_ours: bool) -> str:
    """What goes in and what comes out."""
    lines = []
    if is_ours:
        lines.append(
            "Files in WAV, FLAC, OGG or MP3 at any rate, arrays, bytes and URLs; long recordings as a timeline. "
            "`trust_remote_code=True` runs `ser_model.py` of this repository: read it first."
        )
    else:
        lines.append(
            "transformers' own class: it loads without `trust_remote_code` and reads files through the ffmpeg program; "
            "its scores depend on padding, so give it one clip at a time."
        )
    if not is_regression(results):
        lines += [sentence_on_scores(results), safe(sentence_on_threshold(results) or "")]
    return " ".join(line for line in lines if line)


def scores(results: Results) -> str:
    """The table of scores of test, and of dev beside it."""
    parts = [part for part in ("test", "dev") if part in results]
    rows = [
        [words.TITLES[key], *(_with_interval(results[part], key) for part in parts)]
        for key in words.HEADLINES
        if any(key in results[part] for part in parts)
    ]
    rows.append(["clips", *(words.format_count(results[part].get("n")) for part in parts)])
    return table(["", *parts], rows)


def how_to_read(results: Results) -> str:
    """What the scores and their intervals are."""
    part = results.get("test", results.get("dev", {}))
    method = f" Brackets are 95 % intervals: {safe(part['interval_method'])}." if part.get("interval_method") else ""
    if is_regression(results):
        return f"CCC is 1 where every prediction equals its annotation, and 0 for a constant guess.{method}"
    return (
        f"UAR is the mean recall of the classes, so that a rare one counts as much as a frequent one.{method} "
        f"{safe(words.few_speakers_of(part))}".rstrip()
    )


def classes(results: Results) -> str:
    """The table of classes, or of dimensions."""
    part = results.get("test", results.get("dev", {}))
    recalls = part.get("intervals", {}).get("recall", {})
    if is_regression(results):
        rows = [
            [safe(name), *(words.format_number(scores.get(key)) for key in ("ccc", "mae", "rmse"))]
            for name, scores in part.get("per_dimension", {}).items()
        ]
        return table(["dimension", "CCC", "mean absolute error", "root mean square error"], rows)
    rows = [
        [
            safe(name),
            words.format_number(scores.get("precision")),
            words.format_interval(scores.get("recall"), recalls.get(name)),
            words.format_number(scores.get("f1")),
            words.format_count(scores.get("support")),
            words.format_number(scores.get("ece")),
        ]
        for name, scores in part.get("per_class", {}).items()
    ]
    return table(["class", "precision", "recall", "F1", "clips", "calibration error"], rows)


def plots(files: Sequence[str]) -> str:
    """The two pictures that say most, of those that are there."""
    return _pictures(_shown(files)[:_FIRST_PLOTS])


def more_plots(files: Sequence[str]) -> str:
    """The other pictures, for the end of the card."""
    return _pictures(_shown(files)[_FIRST_PLOTS:])


def _shown(files: Sequence[str]) -> list[str]:
    return [name for name in _PLOTS if f"{name}.png" in files]


def _pictures(shown: Sequence[str]) -> str:
    return paragraphs(*(f"![{_PLOTS[name]}]({name}.png)" for name in shown))


def protocol(results: Results) -> str:
    """How clips were divided, where labels come from, and what is wrong with that."""
    section, corpus = results.get("protocol", {}), results.get("corpus", {})
    clips = ", ".join(
        f"{words.format_count(count)} {safe(part)}" for part, count in (section.get("clips") or {}).items()
    )
    speakers = f", {words.format_count(corpus['speakers'])} speakers" if corpus.get("speakers") else ""
    digest = section.get("split_sha256")
    lines = [
        f"Protocol: {safe(words.protocol_words(section))}." + (f" Clips: {clips}." if clips else ""),
        f"Corpus: {_corpus_name(results)}, {words.format_count(corpus.get('clips'))} clips{speakers}, "
        f"{words.format_seconds(3600 * corpus['hours'])}."
        if corpus.get("hours")
        else None,
        f"Labels: {safe(results['label_source'])}." if results.get("label_source") else None,
        "No speaker of test is in train or dev."
        if is_independent(results)
        else f"The split is {SPEAKER_DEPENDENT}, or its speakers are not known.",
        f"SHA-256 of the split{_where_it_is(section)}: {safe(digest)}" if digest else None,
        *(f"Note: {safe(fault)}" for fault in section.get("what_is_wrong") or []),
        *(
            f"About the corpus: {safe(note)}"
            for note in [*(corpus.get("notes") or []), *(corpus.get("differences") or [])]
        ),
        f"Files that could not be used: {len(corpus['skipped'])}." if corpus.get("skipped") else None,
    ]
    return bullets(lines)


def fails(results: Results) -> str:
    """Scores of each gender, the gap, and the speakers with the lowest scores."""
    groups = {name: scores for name, scores in results.get("gender", {}).items() if name != "gap"}
    gap = results.get("gender", {}).get("gap")
    rows = [
        [safe(name), _with_interval(group, "uar"), _with_interval(group, "ece"), words.format_count(group.get("n"))]
        for name, group in groups.items()
    ]
    speakers = results.get("speakers", {})
    worst = [[safe(name), _with_interval(speakers["per_speaker"][name], "uar")] for name in speakers.get("worst", [])]
    gap_text = None
    if gap:
        difference = words.format_difference(gap.get("uar"), gap.get("intervals", {}).get("uar"))
        gap_text = f"Gap in UAR, {safe(gap['between'][0])} minus {safe(gap['between'][1])}: {difference}."
    if not rows and not worst:
        return "Not known: the corpus gives neither speakers nor genders, or this run did not compare them."
    return paragraphs(
        table(["gender", "UAR", "calibration error", "clips"], rows) if rows else None,
        gap_text,
        "The speakers with the lowest UAR:" if worst else None,
        table(["speaker", "UAR"], worst) if worst else None,
    )


def robustness(rows: Sequence[Mapping[str, Any]], scope: str | None) -> str:
    """The table of `figures.robustness_rows`, and which folds it is of."""
    if not rows:
        return "Not measured for this model: noise, telephone bands, codecs and echo may lower its scores."
    cells = [
        [
            safe(row["name"]),
            words.format_interval(row["value"], row["interval"]),
            words.format_difference(row["change"], row["change_interval"]),
        ]
        for row in rows
    ]
    return paragraphs("The same test clips after each change.", scope, table(["change", "UAR", "difference"], cells))


def limits(results: Results) -> str:
    """What the model is for, what it is not for, and the law."""
    kind = "numbers" if is_regression(results) else "categories"
    return bullets(
        (
            "For research, and to assist people who stay responsible for their decisions.",
            f"It returns {kind} by which annotators or actors described the speech of its corpus, "
            f"{_corpus_name(results)}. That is how a voice sounds to some listeners, not what a person feels.",
            "Other languages, dialects, ages, microphones and ways of speaking than those of its corpus are not "
            "covered by the figures above.",
            "Not for decisions about a person: hiring, work, school, credit, police, borders, health.",
            AI_ACT,
        )
    )


def licences(results: Results, licence: str, backbone: str | None, is_ours: bool) -> str:
    """The data and backbone of the model, with their licences."""
    given = results.get("corpus", {}).get("licence")
    known = backbone_facts(backbone)[0] if backbone else None
    origin = (
        f"{safe(backbone)}; licence: {known or 'not known here, see its page'}" if backbone else "made from scratch"
    )
    other = None
    if licence == "other":
        what = "the licence of the data has no name on the Hub"
        if hub_licence(given):
            what = "the backbone adds conditions of its own"
        elif results.get("corpus", {}).get("corpora"):
            what = "the corpora are under licences of their own"
        other = f"The metadata say `other`, since {what}: all of the terms above hold."
    return bullets(
        (
            f"Data: {_corpus_name(results)}; licence: {safe(given) if given else 'not known'}.",
            f"Backbone: {origin}.",
            "`ser_model.py`: Apache-2.0." if is_ours else None,
            other,
        )
    )


def citation(results: Results, backbone: str | None) -> str:
    """What to cite for the data and the backbone."""
    cited = (results.get("corpus", {}).get("citation") or "").splitlines()
    lines = [*map(safe, cited), backbone_facts(backbone)[1] if backbone else None]
    return bullets(lines) or "The corpus names none."


def source(results: Results, sha256: str | None) -> str:
    """The file that the figures come from, and the versions of the software."""
    versions = ", ".join(f"{safe(name)} {safe(version)}" for name, version in results.get("versions", {}).items())
    return paragraphs(
        "Every figure is read from `results.json`" + (f", SHA-256 `{sha256}`." if sha256 else "."),
        f"Made with {versions}." if versions else None,
    )


def _where_it_is(protocol: Mapping[str, Any]) -> str:
    several = len(protocol.get("folds") or []) > 1
    return "s of all folds together" if several else " (see `splits.json`)"


def _with_interval(scores: Mapping[str, Any], key: str) -> str:
    return words.format_interval(scores.get(key), scores.get("intervals", {}).get(key))


def _corpus_name(results: Results) -> str:
    return safe(results.get("corpus", {}).get("name") or "a corpus that is not named")
