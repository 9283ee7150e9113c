"""What a run's scores mean and when to answer "not sure", in sentences for the card and the report."""

from collections.abc import Mapping
from typing import Any, Literal

from ser.evaluation import format as words

ScoresAre = Literal["calibrated", "balanced", "failed", "uncalibrated"]


def what_scores_are(results: Mapping[str, Any]) -> ScoresAre:
    """Classifies what a run's probabilities are.

    Args:
        results: The content of `results.json`.

    Returns:
        `uncalibrated` without a temperature; `balanced` where they hold for equally frequent classes; `failed` where
        the temperature from dev makes test less likely; else `calibrated`.
    """
    section = results.get("calibration", {})
    if section.get("temperature") is None:
        return "uncalibrated"
    if section.get("reading") == "balanced":
        return "balanced"
    if results.get("final_fit"):  # its own temperature cannot be tested: no clip is left
        return "calibrated"
    before, after = (section.get(f"nll_{when}") for when in ("before", "after"))
    return "failed" if None not in (before, after) and after > before else "calibrated"


def sentence_on_scores(results: Mapping[str, Any]) -> str:
    """What a score means, with the figures of test that show it."""
    section, kind = results.get("calibration", {}), what_scores_are(results)
    if kind == "uncalibrated":
        return "Scores are the model's own and not calibrated: do not read them as probabilities."
    if kind == "failed":
        change = _change({"nll": section["nll_before"]}, {"nll": section["nll_after"]}, "nll")
        return f"A temperature was fitted on dev, but on test it made scores less likely (NLL {change}): distrust them."
    if kind == "balanced":
        text = (
            "Scores suppose that all classes are equally frequent, as training weighed them: a rare class gets higher "
            "scores than the share of clips in which it is right."
        )
        readings = section.get("readings")
        if not readings:
            return text
        names = ("classwise_ece", "accuracy", "uar")
        both = readings["without_prior"], readings["with_prior"]
        changes = ", ".join(f"{words.TITLES[key]} {_change(*both, key)}" for key in names)
        return f"{text} With calibrate_prior=True scores suppose the frequencies of the corpus; on test, {changes}."
    test, final = results.get("test", {}), results.get("final_fit")
    off = [
        f"{words.format_number(test[key])}{where}"
        for key, where in (("ece", ""), ("classwise_ece", " class by class"))
        if test.get(key) is not None
    ]
    on = "what the folds' models said of clips that they had not heard" if final else "dev"
    whose = "those models' scores" if final else "they"
    return f"Scores are probabilities, calibrated on {on}" + (
        f"; on test {whose} are off by {', '.join(off)}." if off else "."
    )


def sentence_on_threshold(results: Mapping[str, Any]) -> str | None:
    """The score below which to answer "not sure", and its precision on test; None for a regression."""
    section = results.get("calibration", {}).get("precision_90")
    if section is None:
        return None
    test, runs = section.get("test") or {}, section.get("per_run")
    if section.get("threshold") is None and not test:
        return (
            f"No score is known above which 9 answers in 10 are right: {section.get('why', 'no threshold reaches it')}."
        )
    unit = "speakers" if section.get("unit") == "speaker" else "clips, whose speakers are not known"
    promise = f"chosen on dev to be right 9 times in 10 on new {unit} (at 95 % confidence)"
    if runs:
        found = sum(run.get("threshold") is not None for run in runs)
        where = f"each run's own threshold, {promise}; {found} of {len(runs)} runs have one"
        where += ", the model of all clips has none" * bool(results.get("final_fit"))
    else:
        where = f"a threshold of {words.format_number(section.get('threshold'))}, {promise}"
    if test.get("precision") is None:
        return f'Take a top score under the threshold for "not sure": {where}.'
    right = words.format_percent(test["precision"])
    if test.get("interval"):
        right += " [" + ", ".join(words.format_percent(bound) for bound in test["interval"]) + "]"
    return (
        f"On test, {right} of the answers were right and {words.format_percent(test['coverage'])} of the clips got one,"
        f' with lower top scores taken for "not sure": {where}.'
    )


def _change(before: Mapping[str, float], after: Mapping[str, float], key: str) -> str:
    return f"{words.format_number(before[key])} to {words.format_number(after[key])}"
