"""What the methods share that tie one set of modules, or one a task, into a frozen backbone."""

from __future__ import annotations

from typing import Protocol, cast

from peft import TaskType
from transformers import PreTrainedModel

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.models.causal_lm import CausalLM
from ratchet.pipelines.models.part import SetPart, task_part
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.models.virtual_tokens import VirtualTokens
from ratchet.pipelines.types import Task

SHARED_SET = "shared"


class _TaskPartsConfig(Protocol):
    @property
    def per_task(self) -> bool: ...


class TaskParts(Method):
    """A frozen backbone and parts beside it, shared by all tasks or one set a task.

    Class attributes:
        part_names: The parts, under their names in `model.parts`.
    """

    part_names: tuple[str, ...]

    def __init__(self, config: _TaskPartsConfig) -> None:
        self.per_task = config.per_task

    def make_part(self, name: str, model: TaughtModel, backbone: PreTrainedModel) -> SetPart:
        """The part of a name, tied into the backbone, without sets yet."""
        raise NotImplementedError

    def set_name(self, task_id: int) -> str:
        """The name of the set that answers for a task."""
        return task_part(task_id) if self.per_task else SHARED_SET

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the sets of a task where they are missing.

        Raises:
            MethodError: The architecture cannot take them.
        """
        for name in self.part_names:
            if name not in model.parts:
                backbone = cast("PreTrainedModel", model.backbone)
                part = self.make_part(name, model, backbone)
                model.keep_base()
                model.parts[name] = part.train(model.training)
                if isinstance(part, VirtualTokens) and isinstance(model, CausalLM):
                    model.context -= part.length  # what they take is not there for the text
            cast("SetPart", model.parts[name]).add(self.set_name(task.id))
        model.parts.to(model.device)

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Let the sets of a task answer, and train where training is on."""
        for name in self.part_names:
            part = cast("SetPart", model.parts[name])
            part.task_id = task_id
            part.choose(self.set_name(task_id))


def peft_task_type(model: TaughtModel) -> TaskType:
    """What PEFT calls the use of a model, for the settings written beside the tensors."""
    return TaskType.CAUSAL_LM if model.kind == "causal_lm" else TaskType.FEATURE_EXTRACTION
