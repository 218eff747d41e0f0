"""Optimizer, schedule and clipping of one stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ratchet.pipelines.spec.update_spec import TrainingSpec


class StageOptimizer:
    """AdamW with warm-up, fresh for every stage, over what trains in it.

    Parameters that are frozen later in the stage keep no gradient, so AdamW leaves them alone:
    neither step nor weight decay moves them. Biases and norms are not decayed.

    Args:
        parameters: Everything that may train in the stage, by name.
        training: Learning rates, decay, schedule, clip.
        num_steps: Optimizer steps in the stage, for the schedule.
        norm: The joint norm of all gradients, by name, where this worker holds but parts of them.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        training: TrainingSpec,
        num_steps: int,
        norm: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.max_grad_norm = training.max_grad_norm
        self._norm = norm or (lambda gradients: joint_norm(list(gradients.values())))
        self.adamw = AdamW(_groups(self.parameters, training), fused=True)
        self._divisor: Tensor | None = None
        warmup = int(num_steps * training.warmup_fraction)
        self.schedule = LambdaLR(
            self.adamw, lambda step: _scale(step, warmup, num_steps, training.schedule)
        )

    def clip(self) -> Tensor:
        """Clip the gradients to `max_grad_norm`; returns their joint norm before, a scalar.

        They are scaled by `step`: the fused AdamW does it as it reads them, which spares a pass.
        """
        gradients = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        norm = self._norm(gradients)
        excess = None if self.max_grad_norm is None else (norm + 1e-6) / self.max_grad_norm
        self._divisor = None if excess is None or not gradients else excess.clamp(min=1.0)
        return norm

    def weight_norm(self) -> Tensor:
        """The joint norm of everything that may train, a scalar; every rank must call it."""
        return self._norm({name: p.detach() for name, p in self.parameters.items()})

    def step(self) -> None:
        """Step, advance the schedule, drop the gradients."""
        # torch reads the divisor from the optimizer's attribute, as its gradient scaler sets it.
        setattr(self.adamw, "grad_scale", self._divisor)  # noqa: B010
        self.adamw.step()
        self._divisor = None
        self.schedule.step()
        self.adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> tuple[dict[str, Tensor], int]:
        """Moments by parameter name, and the schedule's position."""
        tensors = {}
        for name, parameter in self.parameters.items():
            for key, value in self.adamw.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        return tensors, self.schedule.last_epoch

    def load_state_dict(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Put back what `state_dict` gave."""
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if name not in self.parameters:
                continue  # frozen since, by a method that changes what trains within a stage
            parameter = self.parameters[name]
            self.adamw.state[parameter][kind] = value.clone().to(
                parameter.device if kind != "step" else value.device
            )
        self.schedule.last_epoch = position
        for group, base, scale in zip(
            self.adamw.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * scale(position)
        self.schedule._last_lr = [group["lr"] for group in self.adamw.param_groups]


def joint_norm(gradients: list[Tensor]) -> Tensor:
    """The 2-norm over all gradients together, a scalar; 0 where there are none."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _groups(parameters: Mapping[str, nn.Parameter], training: TrainingSpec) -> list[dict]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        is_head = name.startswith("heads.")
        rate = training.head_learning_rate if is_head else None
        decay = training.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate or training.rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def _scale(step: int, warmup: int, num_steps: int, schedule: str) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return max(0.0, (num_steps - step) / max(1, num_steps - warmup))
