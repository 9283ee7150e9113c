"""Fine-tuning from a fitted head, which is kept if dev scores no better."""

from typing import Any

import torch

from ser.training.memory import memory_errors_in_words
from ser.training.signals import training_steps
from ser.training.trainer import SERTrainer

# Share of the way from the start to the trained weights: one half, as WiSE-FT advises if nothing can be tuned. A dev
# set of a few speakers cannot compare shares; it only decides between this share and 0.
SHARE = 0.5

Weights = dict[str, torch.Tensor]


def finetune(
    trainer: SERTrainer, checkpoint: str | None, keeps_start: bool, share: float | None = None
) -> dict[str, Any] | None:
    """Trains, then averages the weights before and after; keeps those before if the average scores no better on dev.

    Fine-tuning from a fitted head (LP-FT, arXiv 2202.10054) can still lose what the backbone learned in pretraining,
    most of all on a small corpus. Weights between the two often generalise better than either (WiSE-FT, arXiv
    2109.01903, eq. 1).

    Args:
        trainer: With `keeps_start`, the head of its model is already fitted on the frozen backbone.
        checkpoint: Folder of the checkpoint to continue; None: train from the start.
        keeps_start: Whether the start is a candidate.
        share: Share of the way to the trained weights, 0 to 1, if there is no dev set.

    Returns:
        The section `start` of `results.json`: `metric`; its dev values at the `start`, after `training` and for the
        `kept` weights; and the `share` of the way, 0 for the start. None if there was no choice.
    """
    args = trainer.args
    scores_dev = args.load_best_model_at_end and args.eval_strategy != "no" and len(trainer.eval_dataset)
    if not keeps_start or (share is None and not scores_dev):
        _train(trainer, checkpoint)
        return None
    metric = str(args.metric_for_best_model).removeprefix("eval_")
    found = {0.0: _on_dev(trainer, metric)} if scores_dev else {}
    start = _copied(trainer.model)
    _train(trainer, checkpoint)
    trained = _copied(trainer.model)
    if not scores_dev:
        _move(trainer.model, start, trained, share)
        return {"share": share}
    for step in (1.0, SHARE):
        _move(trainer.model, start, trained, step)
        found[step] = _on_dev(trainer, metric)
    sign = 1 if args.greater_is_better else -1
    kept = SHARE if sign * found[SHARE] > sign * found[0.0] else 0.0
    _move(trainer.model, start, trained, kept)
    values = f"{found[0.0]:.3f} before fine-tuning, {found[1.0]:.3f} after it"
    print(f"dev {metric}: {values}; kept {kept:.0%} of the way, {found[kept]:.3f}.", flush=True)
    return {
        "metric": metric,
        "start": found[0.0],
        "training": found[1.0],
        "kept": found[kept],
        "share": kept,
    }


def _train(trainer: SERTrainer, checkpoint: str | None) -> None:
    with training_steps(), memory_errors_in_words(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.check_weights()


def _on_dev(trainer: SERTrainer, metric: str) -> float:
    # `predict`, because `evaluate` would write to the log that early stopping and the choice of the best read.
    output = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")
    return float(output.metrics[f"eval_{metric}"])


def _copied(model: torch.nn.Module) -> Weights:
    """Copies of the trainable weights."""
    named = model.named_parameters()
    return {name: parameter.detach().cpu().clone() for name, parameter in named if parameter.requires_grad}


@torch.no_grad()
def _move(model: torch.nn.Module, start: Weights, trained: Weights, share: float) -> None:
    for name, parameter in model.named_parameters():
        if name in start and share in (0.0, 1.0):  # exact, even if the other weights are not finite
            parameter.copy_(start[name] if share == 0.0 else trained[name])
        elif name in start:
            parameter.copy_(torch.lerp(start[name], trained[name], share))
