"""Fine-tuning that never ends below what it began with."""

from typing import Any

import torch

from ser.training.trainer import SERTrainer


def finetune(trainer: SERTrainer, checkpoint: str | None, keeps_start: bool) -> dict[str, Any] | None:
    """Trains; where the best checkpoint is no better on dev than the start was, the start is put back.

    Fine-tuning of everything from a fitted head (LP-FT, arXiv 2202.10054) may still lose what the backbone knows, on
    a small corpus most of all.

    Args:
        trainer: Its model's head was fitted on the frozen backbone, if `keeps_start`.
        checkpoint: Where to go on from; None: from the start.
        keeps_start: Whether the start is a candidate.

    Returns:
        The section `start` of `results.json`: `metric`, its values on dev at the `start` and of the best checkpoint
        of `training`, and which of the two was `kept`; None where the start is no candidate or dev is not scored.
    """
    args = trainer.args
    scores_dev = args.load_best_model_at_end and args.eval_strategy != "no" and len(trainer.eval_dataset)
    if not keeps_start or not scores_dev:
        trainer.train(resume_from_checkpoint=checkpoint)
        return None
    metric = str(trainer.args.metric_for_best_model).removeprefix("eval_")
    # `predict` and not `evaluate`: it leaves no trace in the log that early stopping and the choice of the best read.
    start = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics[f"eval_{metric}"]
    weights = {name: value.detach().cpu().clone() for name, value in _trained(trainer.model).items()}
    trainer.train(resume_from_checkpoint=checkpoint)
    reached, sign = trainer.state.best_metric, 1 if trainer.args.greater_is_better else -1
    is_better = reached is not None and sign * reached > sign * start
    if not is_better:
        with torch.no_grad():
            for name, value in _trained(trainer.model).items():
                value.copy_(weights[name])
        best = float("nan") if reached is None else reached
        print(f"dev {metric}: {start:.3f} before fine-tuning, {best:.3f} at best after it; the start is kept.")
    return {"metric": metric, "start": start, "training": reached, "kept": "training" if is_better else "start"}


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that training may move."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
