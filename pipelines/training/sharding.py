"""Parameters shared out over the workers: each holds a part of every large one.

PyTorch's `fully_shard` gathers a block's parameters when the block runs, drops them after, and
hands each worker the sum of the gradients of its part. What methods add (heads, adapters) is small
and stays whole on every worker, so that structure may grow at any time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.blocks import find_blocks
from ratchet.pipelines.models.precision import Precision
from ratchet.pipelines.models.shards import is_sharded, sharded_parameters
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.training.optim import joint_norm
from ratchet.pipelines.training.workers import AnyWorkers

Model = TypeVar("Model", bound=TaughtModel)


def share_out(
    load: Callable[[], Model], workers: AnyWorkers, device: torch.device, precision: Precision
) -> Model:
    """Load a model and leave each worker its part of the backbone.

    Workers take turns, so that all of them together never hold more than one whole copy: the
    most that a worker holds is one copy of the backbone, while it loads.

    Args:
        load: Loads the model into the host's memory.
        workers: The worker group.
        device: Where this worker's part goes.
        precision: What the forward pass is computed in; parameters are gathered in it too.

    Raises:
        ModelError: The architecture keeps its blocks in no list.
    """
    mesh = init_device_mesh(device.type, (workers.world_size,))
    model: Any = None

    def share(backbone: PreTrainedModel) -> None:
        shard_backbone(backbone, mesh, precision)

    for turn in range(workers.world_size):
        failure: str | None = None
        if turn == workers.rank:
            try:
                model = load()
                assert isinstance(model.backbone, PreTrainedModel), "no method has changed it yet"
                share(model.backbone)
            except ModelError as error:
                failure = str(error)
        for found in workers.gather(failure):  # all fail together: nobody waits for the others
            if found is not None:
                raise ModelError(found)
    model.share_out = share
    return model


def shard_backbone(backbone: PreTrainedModel, mesh: DeviceMesh, precision: Precision) -> None:
    """Shard a backbone in place: its embeddings, each of its blocks, and the rest.

    Raises:
        ModelError: The architecture keeps its blocks in no list.
    """
    # It warns of changing a block's output in place: transformers' blocks and we do not.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    policy = MixedPrecisionPolicy()
    if precision == "bf16":  # autocast decides about activations
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for unit in [*_single_embeddings(backbone), *_blocks(backbone), backbone]:
        sharded = fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        # Each rank's loss carries its share of the rows, so that the gradients' sum is wanted.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    # transformers finds what a model can give besides its output by the name of its class, and
    # sharding made it another one.
    _CAN_RECORD_REGISTRY[backbone] = backbone._can_record_outputs
    placeholder = _Placeholder()
    backbone.register_forward_pre_hook(placeholder.give, with_kwargs=True)
    backbone.register_forward_hook(placeholder.take)


def _single_embeddings(backbone: PreTrainedModel) -> list[nn.Module]:
    """The layers of one row a token, where no other module shares their weight."""
    found = []
    for layer in (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        if layer is not None:
            owners = [m for m in backbone.modules() if layer.weight in set(m._parameters.values())]
            found += [layer] if len(owners) == 1 else []
    return found


def _blocks(backbone: PreTrainedModel) -> nn.ModuleList:
    num_layers = int(backbone.config.num_hidden_layers)
    blocks = find_blocks(backbone, num_layers)
    if blocks is not None:
        return blocks
    raise ModelError(
        f"scaling.sharding: {type(backbone).__name__} has no list of {num_layers} blocks to "
        "shard; use sharding: data with this architecture"
    )


class _Placeholder:
    """One row in place of none: the other workers wait for this one in every block.

    What comes of it is cut off again; gradients still flow, and are zero.
    """

    def __init__(self) -> None:
        self._given = False

    def give(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before a pass: inputs of no rows become one row."""
        ids = kwargs.get("input_ids")
        # Noted here, because what is called after the pass is shown the row as well.
        self._given = ids is not None and len(ids) == 0
        if not self._given:
            return args, kwargs
        filled = {
            name: value.new_ones(1, *value.shape[1:]) if _has_no_rows(value) else value
            for name, value in kwargs.items()
        }
        return args, filled

    def take(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """After it: what came of no rows has no rows."""
        return _cut(output) if self._given else output


def _has_no_rows(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 1 and len(value) == 0


def _cut(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[:0]
    if isinstance(value, tuple):
        return tuple(_cut(item) for item in value)
    if isinstance(value, Mapping):
        return type(value)(**{name: _cut(item) for name, item in value.items()})
    return value


def share_of_step(
    workers: AnyWorkers, model: TaughtModel, num_rows: float, appended: bool
) -> tuple[Tensor, bool]:
    """The share of a step that this worker's rows weigh, and whether any worker `appended` some."""
    total = torch.tensor([float(num_rows), float(appended)], device=model.device)
    workers.sum([total])
    return num_rows / total[0], bool(total[1])


def sum_gradients(workers: AnyWorkers, model: TaughtModel) -> None:
    """Finish the sum over workers: backward has summed what is sharded, the rest is whole.

    Each worker's loss was scaled by `share_of_step`, so that sums are means over all rows. A whole
    parameter that has a gradient on no worker keeps none.
    """
    model.take_gradients()
    kept = [p for p in model.parameters() if p.requires_grad and not is_sharded(p)]
    if not kept:
        return
    has_one = torch.tensor([float(p.grad is not None) for p in kept], device=model.device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in kept]
    workers.sum([*gradients, has_one])
    for parameter, gradient, holders in zip(kept, gradients, has_one.tolist(), strict=True):
        parameter.grad = gradient if holders else None


def norm_over_workers(workers: AnyWorkers, model: TaughtModel) -> Callable[..., Tensor]:
    """The joint norm of gradients by name, where each worker holds its part of some."""
    sharded = {name for name, _ in sharded_parameters(model)}

    def norm(gradients: Mapping[str, Tensor]) -> Tensor:
        parts = joint_norm([g for name, g in gradients.items() if name in sharded]).square()
        parts = parts.to(model.device).reshape(1)
        workers.sum([parts])
        rest = joint_norm([g for name, g in gradients.items() if name not in sharded])
        return (parts[0] + rest.square().to(parts.device)).sqrt()

    return norm
