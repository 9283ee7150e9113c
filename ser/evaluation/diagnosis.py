"""Finds runs that learnt nothing: what shows it, and the three likeliest causes, from the results and the log."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ser.evaluation.format import baselines_of, format_number, format_percent, metric_of, part_of

NUM_CAUSES = 3
# A model has collapsed if it predicts one class for more than this share of the clips.
COLLAPSED = 0.8
# The least share by which a training loss must fall; a loss below LEARNT nats leaves nothing to learn.
FALLS, LEARNT = 0.1, 0.1
# The greatest learning rate that is usual for fine-tuning a whole pretrained encoder.
USUAL_RATE = 1e-4
FEW_CLIPS, FEW_EPOCHS = 400, 3


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a run.

    Attributes:
        finding: What shows it, a sentence.
        causes: The likeliest causes, the likeliest first.
    """

    finding: str
    causes: list[str]

    @property
    def text(self) -> str:
        """The finding and its causes in one paragraph."""
        return f"{self.finding} Likely causes: " + " ".join(f"({k}) {cause}" for k, cause in enumerate(self.causes, 1))


def diagnose(results: Mapping[str, Any], log: Sequence[Mapping[str, Any]] = ()) -> Diagnosis | None:
    """Explains a run that ends below its baseline, is no better than chance, or never improved on dev.

    Args:
        results: The content of `results.json`.
        log: The content of `training_log.json`; empty where there is none.

    Returns:
        `None` where none of this holds, and for a control, whose score should be chance.
    """
    if results.get("config", {}).get("shuffle_train_labels"):
        return None
    findings = list(_findings(results, log))
    if not findings:
        return None
    causes = list(dict.fromkeys([*_causes(results, log), *_usual_causes(results)]))
    return Diagnosis(" ".join(findings), causes[:NUM_CAUSES])


def _findings(results: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    name, value, _ = metric_of(dict(results))
    chance = results.get("chance", {}).get("uar_upper")
    if value is not None and chance is not None and value <= chance:
        reached = f"{name} {format_number(value)}; guessing gets up to {format_number(chance)}"
        yield f"This run is no better than chance: {reached}."
    for kind, baseline in baselines_of(dict(results)).items():
        # Two heads on the same frozen encoder differ by chance only.
        counts = not (kind == "encoder" and results.get("config", {}).get("train_mode") == "probe")
        if counts and value is not None and baseline.get("uar") is not None and value < baseline["uar"]:
            yield (
                f"This run is worse than its baseline: {name} {format_number(value)}, "
                f"{baseline.get('name', 'the baseline')} {format_number(baseline['uar'])}."
            )
    curve = _curve(log, "eval_uar") or _curve(log, "eval_ccc")
    if len(curve) > 1 and max(curve) <= curve[0]:
        yield f"Dev never improved: {format_number(curve[0])} at the first of {len(curve)} evaluations, no more later."


def _causes(results: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Causes that the run itself shows, the likeliest first."""
    config = results.get("config", {})
    label, share = _most_given(results)
    losses, dev = _curve(log, "loss"), _curve(log, "eval_uar")
    rate, pretrained = config.get("learning_rate", 5e-5), bool(config.get("model_name_or_path"))
    is_tuned = config.get("train_mode", "finetune") == "finetune" and not config.get("freeze_base_model")
    if pretrained and is_tuned and rate > USUAL_RATE:
        instead = f"try {USUAL_RATE / 5:g}, or --train_mode probe"
        yield f"learning_rate {rate:g} destroys what a pretrained encoder knows; {instead}."
    if share > COLLAPSED:
        yield f"It predicts {label} for {format_percent(share)} of clips: a lower learning_rate, or --loss weighted."
    if len(losses) > 1 and losses[-1] > (1 - FALLS) * losses[0]:
        yield (
            f"The training loss fell from {format_number(losses[0])} to {format_number(losses[-1])} only: try more "
            "epochs, another learning_rate, or fewer frozen layers."
        )
    if losses and losses[-1] < LEARNT and (not dev or max(dev) < 0.9):
        yield (
            f"The model overfits (training loss {format_number(losses[-1])}): try --train_mode probe, augmentations, "
            "or more speakers."
        )
    epochs = max((entry.get("epoch", 0) for entry in log), default=None)
    if epochs is not None and epochs <= FEW_EPOCHS:
        yield f"{format_number(epochs, 0)} epochs are few; set --num_train_epochs higher."


def _usual_causes(results: Mapping[str, Any]) -> Iterator[str]:
    """Causes that are always possible, those that fit the run first."""
    config, protocol = results.get("config", {}), results.get("protocol", {})
    train = (protocol.get("clips") or {}).get("train")
    if not config.get("model_name_or_path"):
        yield "The encoder is not pretrained: name a pretrained one with --model_name_or_path."
    if train is not None and train < FEW_CLIPS:
        yield f"{train} training clips are few: try --train_mode probe, or add a corpus."
    yield "Labels may be at the wrong clips: listen to ten of them, and check ids and label_map."
    yield "Clips may be silent, cut off, or of another level or language than those that the encoder was trained on."
    yield "Dev may be too small to choose by: few clips or one speaker; look at its interval."


def _most_given(results: Mapping[str, Any]) -> tuple[str, float]:
    """The class that is predicted most often, and its share of the clips."""
    confusion = results.get(part_of(dict(results)), {}).get("confusion")
    if not confusion:
        return "", 0.0
    given = [sum(column) for column in zip(*confusion, strict=True)]
    most = max(range(len(given)), key=given.__getitem__)
    return results["labels"][most], given[most] / max(sum(given), 1)


def _curve(log: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [entry[key] for entry in log if entry.get(key) is not None]
