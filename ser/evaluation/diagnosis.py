"""When a run has learnt nothing: what shows it, and the three likeliest causes, from its results and its log."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ser.evaluation.format import baselines_of, format_number, format_percent, metric_of, part_of

NUM_CAUSES = 3
# Share of the clips that one class gets from a model that has collapsed.
COLLAPSED = 0.8
# A loss that falls by less than this share has not fallen; one below it, of nats, has nothing left to learn from.
FALLS, LEARNT = 0.1, 0.1
# The greatest learning rate in use for fine-tuning a pretrained encoder whole.
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
    """Says what is wrong where a run ends below its baseline, no better than chance, or never got better on dev.

    Args:
        results: The content of `results.json`.
        log: The content of `training_log.json`; empty where there is none.

    Returns:
        `None` where none of this is so, and for a control, which is to score like chance.
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
        # A head on a frozen encoder and another one on the same differ by chance.
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
    """Causes that the run itself shows, the surest first."""
    config = results.get("config", {})
    label, share = _most_given(results)
    losses, dev = _curve(log, "loss"), _curve(log, "eval_uar")
    rate, pretrained = config.get("learning_rate", 5e-5), bool(config.get("model_name_or_path"))
    is_tuned = config.get("train_mode", "finetune") == "finetune" and not config.get("freeze_base_model")
    if pretrained and is_tuned and rate > USUAL_RATE:
        instead = f"try {USUAL_RATE / 5:g}, or --train_mode probe"
        yield f"learning_rate {rate:g} destroys what a pretrained encoder knows; {instead}."
    if share > COLLAPSED:
        yield f"It answers {label} for {format_percent(share)} of the clips: a lower learning_rate, or --loss weighted."
    if len(losses) > 1 and losses[-1] > (1 - FALLS) * losses[0]:
        yield (
            f"The training loss fell from {format_number(losses[0])} to {format_number(losses[-1])} only: more epochs, "
            "another learning_rate, or fewer frozen layers."
        )
    if losses and losses[-1] < LEARNT and (not dev or max(dev) < 0.9):
        yield (
            f"Training knows its clips by heart (loss {format_number(losses[-1])}): --train_mode probe, augmentations, "
            "or more speakers."
        )
    epochs = max((entry.get("epoch", 0) for entry in log), default=None)
    if epochs is not None and epochs <= FEW_EPOCHS:
        yield f"{format_number(epochs, 0)} epochs are few; set --num_train_epochs higher."


def _usual_causes(results: Mapping[str, Any]) -> Iterator[str]:
    """Causes that are never ruled out, those that fit the run first."""
    config, protocol = results.get("config", {}), results.get("protocol", {})
    train = (protocol.get("clips") or {}).get("train")
    if not config.get("model_name_or_path"):
        yield "The encoder was made from scratch: name a pretrained one with --model_name_or_path."
    if train is not None and train < FEW_CLIPS:
        yield f"{train} clips to train on are few: --train_mode probe, or a corpus more."
    yield "Labels may not belong to their clips: listen to ten, and look at ids and label_map."
    yield "Clips may be silent, cut off, or at another level or language than the encoder was made for."
    yield "Dev may be too small to choose by: few clips or one speaker; look at its interval."


def _most_given(results: Mapping[str, Any]) -> tuple[str, float]:
    """The class that is predicted most, and its share of the clips."""
    confusion = results.get(part_of(dict(results)), {}).get("confusion")
    if not confusion:
        return "", 0.0
    given = [sum(column) for column in zip(*confusion, strict=True)]
    most = max(range(len(given)), key=given.__getitem__)
    return results["labels"][most], given[most] / max(sum(given), 1)


def _curve(log: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [entry[key] for entry in log if entry.get(key) is not None]
