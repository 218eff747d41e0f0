"""The slow way that is always right: one example at a time, by ordinary differentiation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.importance.rules import Magnitude
from ratchet.pipelines.types import Batch, Output

Forward = Callable[[Batch], Output]
Objective = Callable[[Batch, Output], Tensor]


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch, padded as they were."""
    index = torch.tensor(rows, dtype=torch.int64, device=batch.targets.device)
    return replace(
        batch,
        inputs={key: value[index] for key, value in batch.inputs.items()},
        targets=batch.targets[index],
        weights=batch.weights[index],
        task_ids=batch.task_ids[index],
        rows=batch.rows[index],
        parts={"new": slice(0, len(rows))},
        extras={key: value[index] for key, value in batch.extras.items()},
    )


def pull_output(objective: Objective, batch: Batch, output: Output) -> Output:
    """The gradient of each example's objective with respect to its own row of the output.

    One call of the objective serves every way of going on, so that a sampled label is drawn once.

    Raises:
        MethodError: The objective is not one number an example.
    """
    with torch.enable_grad():
        logits = output.logits.detach().requires_grad_()
        features = output.features.detach().requires_grad_()
        values = objective(batch, Output(logits=logits, features=features))
        if values.shape != (len(batch),):
            raise MethodError(
                f"importance: the objective has shape {list(values.shape)}; it must be "
                f"[{len(batch)}], one number an example"
            )
        grads = torch.autograd.grad(
            values.sum(), [logits, features], allow_unused=True, materialize_grads=True
        )
    return Output(logits=grads[0], features=grads[1])


def push_back(output: Output, pulled: Output) -> None:
    """Send the objective's gradient backwards through the model, to whatever asked for it."""
    pairs = [
        (value, grad)
        for value, grad in ((output.logits, pulled.logits), (output.features, pulled.features))
        if value.requires_grad
    ]
    if pairs:
        torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])


def add_row_gradients(
    batch: Batch,
    pulled: Output,
    forward: Forward,
    parameters: Mapping[str, nn.Parameter],
    sums: Mapping[str, Tensor],
    magnitude: Magnitude,
) -> None:
    """Add the magnitude of each example's gradient, one forward and backward pass an example.

    Args:
        batch: The examples.
        pulled: The gradient of each example's objective at the output; see `pull_output`.
        forward: Gives the output of a batch.
        parameters: The parameters to measure, by name.
        sums: Their running sums.
        magnitude: What is summed.
    """
    for row in range(len(batch)):
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        try:
            output = forward(rows_of(batch, [row]))
            gradients = _row_gradients(output, pulled, row, list(parameters.values()))
        finally:
            for parameter in parameters.values():
                parameter.requires_grad_(False)
        for name, gradient in zip(parameters, gradients, strict=True):
            sums[name].add_(magnitude.of(gradient.to_dense()))


def _row_gradients(
    output: Output, pulled: Output, row: int, parameters: list[nn.Parameter]
) -> tuple[Tensor, ...]:
    values = [output.logits, output.features]
    grads = [pulled.logits[row : row + 1], pulled.features[row : row + 1]]
    kept = [i for i, value in enumerate(values) if value.requires_grad]
    if not kept:
        return tuple(torch.zeros_like(parameter) for parameter in parameters)
    return torch.autograd.grad(
        [values[i] for i in kept],
        parameters,
        [grads[i] for i in kept],
        allow_unused=True,
        materialize_grads=True,
    )
