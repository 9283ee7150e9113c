"""Fine-tuning from a fitted head that never ends below it on dev."""

from typing import Any

import torch

from ser.training.trainer import SERTrainer

# How far to go from the start towards the trained weights: half of the way, as WiSE-FT advises where nothing can be
# tuned. A dev set of a few speakers cannot tell shares apart; it is asked only whether to go at all.
SHARE = 0.5

Weights = dict[str, torch.Tensor]


def finetune(
    trainer: SERTrainer, checkpoint: str | None, keeps_start: bool, share: float | None = None
) -> dict[str, Any] | None:
    """Trains, then takes the mean of the weights before and after; what was before, where dev likes that no less.

    Fine-tuning from a fitted head (LP-FT, arXiv 2202.10054) can still lose what the backbone knows, on a small corpus
    most of all. Weights between the two often do better than either on what training did not see (WiSE-FT, arXiv
    2109.01903, eq. 1).

    Args:
        trainer: Its model's head was fitted on the frozen backbone, if `keeps_start`.
        checkpoint: Where to go on from; None: from the start.
        keeps_start: Whether the start is a candidate.
        share: How far to go, 0 to 1, where there is no dev to ask.

    Returns:
        The section `start` of `results.json`: `metric`, its values on dev at the `start`, after `training` and of what
        was `kept`, and the `share` of the way that was gone, 0 for the start; None where there was no choice.
    """
    args = trainer.args
    scores_dev = args.load_best_model_at_end and args.eval_strategy != "no" and len(trainer.eval_dataset)
    if not keeps_start or not (scores_dev or share is not None):
        trainer.train(resume_from_checkpoint=checkpoint)
        return None
    metric = str(args.metric_for_best_model).removeprefix("eval_")
    found = {0.0: _on_dev(trainer, metric)} if scores_dev else {}
    start = _copied(trainer.model)
    trainer.train(resume_from_checkpoint=checkpoint)
    trained = _copied(trainer.model)
    if scores_dev:
        for step in (1.0, SHARE):
            _move(trainer.model, start, trained, step)
            found[step] = _on_dev(trainer, metric)
        sign = 1 if args.greater_is_better else -1
        share = SHARE if sign * found[SHARE] > sign * found[0.0] else 0.0
    _move(trainer.model, start, trained, share)
    if not scores_dev:
        return {"share": share}
    values = f"{found[0.0]:.3f} before fine-tuning, {found[1.0]:.3f} after it"
    print(f"dev {metric}: {values}; kept {share:.0%} of the way, {found[share]:.3f}.", flush=True)
    return {
        "metric": metric,
        "start": found[0.0],
        "training": found[1.0],
        "kept": found[share],
        "share": share,
    }


def _on_dev(trainer: SERTrainer, metric: str) -> float:
    # `predict` and not `evaluate`: it leaves no trace in the log that early stopping and the choice of the best read.
    output = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")
    return float(output.metrics[f"eval_{metric}"])


def _copied(model: torch.nn.Module) -> Weights:
    """The weights that training may move."""
    named = model.named_parameters()
    return {name: parameter.detach().cpu().clone() for name, parameter in named if parameter.requires_grad}


@torch.no_grad()
def _move(model: torch.nn.Module, start: Weights, trained: Weights, share: float) -> None:
    for name, parameter in model.named_parameters():
        if name in start and share in (0.0, 1.0):  # to the bit, also where the other end is not finite
            parameter.copy_(start[name] if share == 0.0 else trained[name])
        elif name in start:
            parameter.copy_(torch.lerp(start[name], trained[name], share))
