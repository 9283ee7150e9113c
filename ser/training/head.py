"""Fits a head on the statistics of a frozen backbone with L-BFGS, all clips at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_STEPS = 100
# Weights of a layer: 256 by the 1,024 dimensions of a base model's mean and deviation.
_SMALL = 2**18


def fit_head(
    model: Any,
    statistics: torch.Tensor,
    targets: torch.Tensor,
    loss: Loss,
    strength: float,
    weights: torch.Tensor | None = None,
) -> float:
    """Standardises the vectors over the clips, then fits the head of `model` in place; the backbone does not change.

    L-BFGS (Liu and Nocedal, Mathematical Programming 45, 1989) minimises the mean loss plus `strength / 2` times the
    sum of the squared weights, biases left out, from the current weights. A linear head under cross-entropy
    is then scikit-learn's logistic regression with `C = 1 / (strength N)`.

    Args:
        model: `SERForAudioClassification`.
        statistics: Output of `layer_statistics` for the training clips, `[N, L + 1, 2 D]`.
        targets: Probabilities of the classes `[N, C]`, or values `[N, C]` of a regression.
        loss: A function from outputs `[N, C]` and targets to the loss of each clip `[N]`.
        strength: Weight of the squared weights, above 0.
        weights: Weight of each clip, `[N]`, with mean 1; default: all equal.

    Returns:
        The final value of the objective.

    Raises:
        ValueError: That value is not finite.
    """
    vectors = model.vectors_of(statistics)
    model.standardize.fit(vectors)
    with torch.no_grad():
        vectors = model.standardize(vectors)
        mixed = None if hasattr(model, "layer_weights") else vectors.flatten(1)
    basis = None
    if mixed is not None and mixed.shape[0] < mixed.shape[1]:
        # With an L2 penalty the solution lies in the span of the clips, [E, N]; the fit is faster there.
        basis = torch.linalg.qr(mixed.T).Q
        mixed = mixed @ basis
    layers = _copied_layers(model, basis)
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    if mixed is None:
        parameters.append(model.layer_weights)

    def objective() -> torch.Tensor:
        inputs = (vectors * model.layer_weights.softmax(0)[:, None]).sum(1) if mixed is None else mixed
        hidden = layers[0](inputs)
        outputs = layers[1](torch.tanh(hidden)) if len(layers) == 2 else hidden
        losses = loss(outputs, targets)
        mean = (losses if weights is None else losses * weights).mean()
        return mean + strength / 2 * sum(layer.weight.square().sum() for layer in layers)

    reached = _minimise(objective, parameters)
    _write_back(model, layers, basis)
    return reached


def linear_layers(model: Any) -> list[nn.Linear]:
    """The linear layers of a model's head: projector and classifier, or the classifier alone."""
    return [model.projector, model.classifier] if model.config.head == "tanh" else [model.classifier]


def _copied_layers(model: Any, basis: torch.Tensor | None) -> list[nn.Linear]:
    """Copies of the layers of the head; the first is projected onto `basis` `[E, N]`."""
    copies = []
    for index, layer in enumerate(linear_layers(model)):
        weight = layer.weight.detach().float()
        if index == 0 and basis is not None:
            weight = weight @ basis
        copy = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            copy.weight.copy_(weight)
            copy.bias.copy_(layer.bias)
        copies.append(copy)
    return copies


def _minimise(objective: Callable[[], torch.Tensor], parameters: list[nn.Parameter]) -> float:
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=_STEPS,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    with torch.enable_grad(), _few_threads(parameters[0].numel()):
        optimizer.step(closure)
    reached = float(objective().detach())
    if reached != reached or reached in (float("inf"), float("-inf")):
        raise ValueError(f"The fit of the head ended at a loss of {reached}. Look at the corpus for broken clips.")
    return reached


@contextmanager
def _few_threads(num_weights: int) -> Iterator[None]:
    """Uses one thread for a small layer: more threads gain little, and block each other on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if num_weights <= _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _write_back(model: Any, layers: list[nn.Linear], basis: torch.Tensor | None) -> None:
    for index, (layer, fitted) in enumerate(zip(linear_layers(model), layers, strict=True)):
        weight = fitted.weight if index or basis is None else fitted.weight @ basis.T
        layer.weight.copy_(weight)
        layer.bias.copy_(fitted.bias)
