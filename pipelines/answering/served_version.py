"""A version in memory, as serving needs it: router, heads, and where its features come from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from ratchet.pipelines.answering.adapter_bank import read_adapter
from ratchet.pipelines.answering.frozen_base import BaseShelf, FrozenBase
from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.evaluation.answer_experts import Choices
from ratchet.pipelines.methods.analytic import Analytic
from ratchet.pipelines.methods.base import MethodStack
from ratchet.pipelines.methods.lora import Lora
from ratchet.pipelines.models.classifier import Classifier
from ratchet.pipelines.models.precision import autocast, resolve_precision
from ratchet.pipelines.models.prototype_router import Router
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.registry.manifest import MANIFEST_FILE, Manifest, read_manifest, verify_files
from ratchet.pipelines.types import Task, route_tasks
from ratchet.pipelines.version import (
    ADAPTERS_FOLDER,
    WEIGHTS_FILE,
    load_version,
    read_router,
    stack_of,
    tasks_of,
)

RIDGE_TEMPERATURE = 0.05
"""Ridge scores regress 0 and 1: as they are, a softmax over them gives all labels almost the same.
On validation rows of CLINC150 (150 labels) this makes mean confidence equal accuracy."""


@dataclass
class ServedVersion:
    """A version that answers.

    Attributes:
        manifest: What it says of itself.
        tasks: Its tasks, in the order learned.
        base: The base that it grew from.
        model: Its heads, over the shared backbone or over one of its own.
        stack: Its methods, to activate a task.
        router: Chooses the task, and rejects.
        choices: Among what a request that names no task is answered.
        rule: How it is answered.
        slots: The adapter of each task in the base's bank; empty where the version has none.
        precision: Precision of forward passes.
        ended: Gives back what the version holds.
        lock: Held while a model of its own has a task active.
    """

    manifest: Manifest
    tasks: tuple[Task, ...]
    base: FrozenBase
    model: Classifier
    stack: MethodStack
    router: Router
    choices: Choices
    rule: AnswerRule
    slots: Mapping[int, int]
    precision: Literal["fp32", "bf16"]
    ended: ExitStack
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lineage(self) -> str:
        """The lineage."""
        return self.manifest.lineage

    @property
    def number(self) -> int:
        """The version's number in its lineage."""
        return self.manifest.version

    @property
    def layout(self) -> Literal["per_task", "growing", "shared"]:
        """Whether a label needs its task first; see `HeadsConfig`."""
        return self.model.head.layout

    @property
    def threshold(self) -> float:
        """The in-scope score that a text must reach."""
        return float(self.manifest.routing["threshold"])

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        return int(self.manifest.routing["max_length"])

    @property
    def autocast(self) -> Callable[[], Any]:
        """A factory of context managers that run a forward pass in the version's precision."""
        return autocast(self.precision, self.base.device)

    @property
    def has_task_features(self) -> bool:
        """Whether a text's features, or its heads, depend on the task that is asked."""
        own = self.model.has_task_adapters or len(set(self.slots.values())) > 1
        return own or self.layout == "per_task"

    def task_id(self, name: str) -> int | None:
        """The id of a task, or None where the version does not know it."""
        return next((task.id for task in self.tasks if task.name == name), None)

    def class_ids(self, task_id: int | None) -> list[int]:
        """The classes of a task, or of all where None, ascending."""
        if task_id is not None:
            return list(self.tasks[task_id].class_ids)
        return sorted({index for task in self.tasks for index in task.class_ids})

    def task_of(self, class_id: int) -> int:
        """The id of the first task that has a class."""
        return next(task.id for task in self.tasks if class_id in task.class_ids)

    def logits(self, features: Tensor) -> Tensor:
        """Features [rows, dim] -> logits over all classes of the version, [rows, classes], float32.

        Scores of the analytic head are divided by a temperature, which changes no ranking.
        """
        return self.scaled(self.model.heads(features.float()).float())

    def scaled(self, logits: Tensor) -> Tensor:
        """The heads' scores as logits that a softmax makes sense of."""
        return logits / RIDGE_TEMPERATURE if self.model.reads_base_features else logits

    def close(self) -> None:
        """Give back the adapters' slots; nothing may ask this version any more."""
        self.ended.close()


def load_served_version(
    folder: Path, shelf: BaseShelf, precision: Literal["auto", "fp32", "bf16"] = "auto"
) -> ServedVersion:
    """Load a version for serving, after every file was checked.

    LoRA adapters go into the bank of the shared base, and the analytic head onto it; every other
    version brings a backbone of its own.

    Args:
        folder: The version's folder.
        shelf: Where base models are.
        precision: Of forward passes; `auto` is bf16 where the processor has it. Methods that are
            exact in float32 only stay there.

    Raises:
        NotFoundError: The folder holds no version.
        VersionError: The version is broken or does not fit.
        ModelError: The base model or the weights do not fit, or it is a language model.
    """
    manifest = read_manifest(folder)
    refuse_language_model(manifest)
    verify_files(folder, manifest)
    base = shelf.base_of(manifest)
    stack = stack_of(manifest)
    tasks = tasks_of(manifest)
    with ExitStack() as undo:
        slots = _place_adapters(folder, manifest, base, stack, undo)
        if slots or any(isinstance(method, Analytic) for method in stack.methods.values()):
            model = _over_base(folder, base, stack, tasks)
        else:
            loaded = load_version(folder, verify=False)
            model, stack = cast("Classifier", loaded.model.to(base.device)), loaded.stack
        model.eval()
        router = read_router(folder).fit(route_tasks(tasks)).to(base.device)
        wanted = "fp32" if stack.needs_float32 else precision
        return ServedVersion(
            manifest,
            tasks,
            base,
            model,
            stack,
            router,
            choices=Choices.of(tasks, manifest.labels),
            rule=rule_of(folder, manifest),
            slots=slots,
            precision=resolve_precision(wanted, base.device),
            ended=undo.pop_all(),
        )


def rule_of(folder: Path, manifest: Manifest) -> AnswerRule:
    """How a version answers requests that name no task.

    One that is not judged yet keeps no rule, and is answered by the routed task.

    Raises:
        VersionError: What it says of that is broken.
    """
    if not manifest.answering:
        return AnswerRule("routed")
    return AnswerRule.from_dict(manifest.answering, f"{folder / MANIFEST_FILE}: answering")


def _place_adapters(
    folder: Path, manifest: Manifest, base: FrozenBase, stack: MethodStack, undo: ExitStack
) -> dict[int, int]:
    """Put the adapter of each task into the base's bank; nothing where the version has none."""
    lora = next((m for m in stack.methods.values() if isinstance(m, Lora)), None)
    if lora is None:
        return {}
    slots: dict[int, int] = {}
    for task in tasks_of(manifest):
        place = f"{ADAPTERS_FOLDER}/{lora.adapter_name(task.id)}"
        key = "".join(
            manifest.files[f"{place}/{file}"]
            for file in ("adapter_config.json", "adapter_model.safetensors")
        )
        slot = base.bank.place(key, lambda place=place: read_adapter(folder / place))
        undo.callback(base.bank.release, slot)
        slots[task.id] = slot
    return slots


def _over_base(
    folder: Path, base: FrozenBase, stack: MethodStack, tasks: tuple[Task, ...]
) -> Classifier:
    """The version's heads over the shared backbone."""
    view = base.view()
    for task in tasks:
        for method in stack.methods.values():
            if not isinstance(method, Lora):
                method.expand(view, task)
    view.load_learned_state(load_file(folder / WEIGHTS_FILE))
    with torch.no_grad():
        return view.to(base.device)


def refuse_language_model(manifest: Manifest) -> None:
    """Say that versions of language models are not served.

    Raises:
        ModelError: The version is one of a language model.
    """
    if manifest.kind == "causal_lm":
        raise ModelError(
            f"model.kind: {manifest.lineage}@{manifest.version} is a causal language model, and "
            "serving answers with classifiers only; use `ratchet predict`, or hand the version's "
            "adapters (in PEFT's format) to a server of language models"
        )
