"""The contents of a version on disk: weights, adapters, method states, memory, rows, router.

Tensors lie in safetensors, rows in Parquet, the rest in JSON; nothing is pickled, and loading
executes nothing that it loads. LoRA adapters, prefixes and prompts lie in PEFT's own format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.methods.base import MemoryRow, MethodStack, MethodState
from ratchet.pipelines.methods.registry import build_stack
from ratchet.pipelines.models.load import load_model, model_spec_of
from ratchet.pipelines.models.router_statistics import RouterStatistics
from ratchet.pipelines.models.taught_model import TaughtModel, base_hash
from ratchet.pipelines.models.virtual_tokens import VirtualTokens
from ratchet.pipelines.registry.manifest import Manifest, read_manifest, verify_files
from ratchet.pipelines.spec.methods import AnyMethodConfig, MethodConfig
from ratchet.pipelines.types import Task

WEIGHTS_FILE = "weights.safetensors"
ADAPTERS_FOLDER = "adapters"
ADAPTER_FILE = "adapter_model.safetensors"
PROMPT_KEY = "prompt_embeddings"
"""PEFT's name for the tensor of a prefix or a prompt."""
METHODS_FOLDER = "methods"
MEMORY_FILE = "memory.parquet"
ROWS_FOLDER = "rows"
OUT_OF_SCOPE_FILE = "out_of_scope.parquet"
ROUTER_FILE = "router.safetensors"
MATRIX_FILE = "accuracy_matrix.json"


@dataclass(frozen=True)
class HeldOutTexts:
    """A task's rows that the gate and the evaluation need when its training data is gone."""

    validation: list[str]
    validation_labels: list[str]
    test: list[str]
    test_labels: list[str]


@dataclass
class LoadedVersion:
    """A version in memory, ready to answer or to be taught on."""

    manifest: Manifest
    model: TaughtModel
    stack: MethodStack
    router: RouterStatistics

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it knows, in the order learned."""
        return tasks_of(self.manifest)


def tasks_of(manifest: Manifest) -> tuple[Task, ...]:
    """The tasks that a version knows, in the order learned."""
    return tuple(
        Task(task["id"], task["name"], tuple(task["class_ids"]), task["stage"])
        for task in manifest.tasks
    )


def write_weights(
    folder: Path, model: TaughtModel, learned: Mapping[str, Tensor] | None = None
) -> None:
    """Write what differs from the base model: adapters in PEFT's format, the rest as one file.

    Args:
        folder: The version's folder.
        model: The model.
        learned: Its learned state, whole, where the model holds only a part of it.
    """
    learned = model.learned_state() if learned is None else learned
    tokens = _trained_tokens(model)
    elsewhere = {place for _, place in tokens.values()}
    state = {n: t for n, t in learned.items() if ".lora_" not in n and n not in elsewhere}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_plain(state), folder / WEIGHTS_FILE)
    for name, (config, place) in tokens.items():
        tensors = {PROMPT_KEY: learned[place]}
        _write_adapter(folder / ADAPTERS_FOLDER / name, config, tensors, model.name)
    if not isinstance(model.backbone, PeftModel):
        return
    for name, config in model.backbone.peft_config.items():
        tensors = get_peft_model_state_dict(
            model.backbone, adapter_name=name, save_embedding_layers=False
        )
        _write_adapter(folder / ADAPTERS_FOLDER / name, config, tensors, model.name)


def _write_adapter(
    folder: Path, config: PeftConfig, tensors: Mapping[str, Tensor], base_name: str
) -> None:
    """Write an adapter as PEFT does.

    Args:
        folder: Its own.
        config: PEFT's settings.
        tensors: By PEFT's names.
        base_name: The name that the spec gave the base model, not where it lies on this machine.
    """
    folder.mkdir(parents=True)
    save_file(_plain(tensors), folder / ADAPTER_FILE, metadata={"format": "pt"})
    saved = config.to_dict() | {"inference_mode": True, "base_model_name_or_path": base_name}
    text = json.dumps(saved, indent=2, sort_keys=True, default=_json_default)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def _trained_tokens(model: TaughtModel) -> dict[str, tuple[PeftConfig, str]]:
    """By name, prefixes and prompts: PEFT's settings, and the tensor's name in the model."""
    return {
        name: (part.config, f"parts.{kind}.sets.{name}.embedding.weight")
        for kind, part in model.parts.items()
        if isinstance(part, VirtualTokens)
        for name in part.sets
    }


def read_weights(folder: Path, model: TaughtModel) -> None:
    """Put the weights of a version into a model with its structure.

    Raises:
        VersionError: An adapter of the version does not fit.
        ModelError: Other weights do not fit.
    """
    state = load_file(folder / WEIGHTS_FILE)
    own = model.learned_state()
    if isinstance(model.backbone, PeftModel):
        for name in model.backbone.peft_config:
            tensors = load_file(folder / ADAPTERS_FOLDER / name / ADAPTER_FILE)
            result = set_peft_model_state_dict(model.backbone, tensors, adapter_name=name)
            missing = [key for key in result.missing_keys if f".{name}." in key]
            if result.unexpected_keys or missing:
                raise VersionError(f"{folder}: the adapter {name} does not fit the base model")
        state |= {key: tensor for key, tensor in own.items() if ".lora_" in key}
    for name, (_, place) in _trained_tokens(model).items():
        state[place] = load_file(folder / ADAPTERS_FOLDER / name / ADAPTER_FILE)[PROMPT_KEY]
    model.load_learned_state(state)


def write_states(folder: Path, states: Mapping[str, MethodState]) -> None:
    """Write the methods' merged states: tensors and values a method, one memory for all."""
    (folder / METHODS_FOLDER).mkdir(parents=True, exist_ok=True)
    memory: dict[str, list[Any]] = {"method": [], "text": [], "task_id": [], "class_id": []}
    for kind, state in states.items():
        save_file(_plain(state.tensors), folder / METHODS_FOLDER / f"{kind}.safetensors")
        for row in state.rows:
            memory["method"].append(kind)
            for field, value in asdict(row).items():
                memory[field].append(value)
    values = {kind: state.values for kind, state in states.items()}
    (folder / METHODS_FOLDER / "values.json").write_text(json.dumps(values), encoding="utf-8")
    schema = pa.schema(
        [
            ("method", pa.string()),
            ("text", pa.string()),
            ("task_id", pa.int64()),
            ("class_id", pa.int64()),
        ]
    )
    pq.write_table(pa.table(memory, schema=schema), folder / MEMORY_FILE)


def read_states(folder: Path) -> dict[str, MethodState]:
    """The methods' states as one, before they are sharded over workers."""
    values = json.loads((folder / METHODS_FOLDER / "values.json").read_text(encoding="utf-8"))
    rows: dict[str, list[MemoryRow]] = {kind: [] for kind in values}
    for row in pq.read_table(folder / MEMORY_FILE).to_pylist():
        rows[row["method"]].append(MemoryRow(row["text"], row["task_id"], row["class_id"]))
    return {
        kind: MethodState(
            tensors=load_file(folder / METHODS_FOLDER / f"{kind}.safetensors"),
            values=values[kind],
            rows=rows[kind],
        )
        for kind in values
    }


def write_held_out(folder: Path, task_id: int, texts: HeldOutTexts) -> None:
    """Write the validation and test rows of a task."""
    (folder / ROWS_FOLDER).mkdir(parents=True, exist_ok=True)
    split = ["validation"] * len(texts.validation) + ["test"] * len(texts.test)
    table = pa.table(
        {
            "split": pa.array(split, pa.string()),
            "text": pa.array(texts.validation + texts.test, pa.string()),
            "label": pa.array(texts.validation_labels + texts.test_labels, pa.string()),
        }
    )
    pq.write_table(table, folder / ROWS_FOLDER / f"task_{task_id:03d}.parquet")


def read_held_out(folder: Path, task_id: int) -> HeldOutTexts:
    """The validation and test rows of a task."""
    rows = pq.read_table(folder / ROWS_FOLDER / f"task_{task_id:03d}.parquet").to_pylist()
    parts: dict[str, list[str]] = {
        f"{s}{f}": [] for s in ("validation", "test") for f in ("", "_labels")
    }
    for row in rows:
        parts[row["split"]].append(row["text"])
        parts[f"{row['split']}_labels"].append(row["label"])
    return HeldOutTexts(**parts)


def write_out_of_scope(folder: Path, texts: Sequence[str]) -> None:
    """Write text that belongs to no task, where there is any."""
    if texts:
        (folder / ROWS_FOLDER).mkdir(parents=True, exist_ok=True)
        table = pa.table({"text": pa.array(list(texts), pa.string())})
        pq.write_table(table, folder / ROWS_FOLDER / OUT_OF_SCOPE_FILE)


def read_out_of_scope(folder: Path) -> list[str]:
    """The text that a version keeps of no task; none where it keeps none."""
    path = folder / ROWS_FOLDER / OUT_OF_SCOPE_FILE
    if not path.is_file():
        return []
    return [row["text"] for row in pq.read_table(path).to_pylist()]


def write_router(folder: Path, router: RouterStatistics) -> None:
    """Write the router's sums."""
    save_file(_plain(router.state_dict()), folder / ROUTER_FILE)


def load_version(folder: Path, verify: bool = True) -> LoadedVersion:
    """Load a version: check every file, build its structure without data, fill in the weights.

    Args:
        folder: The version's folder.
        verify: Whether every file is hashed first.

    Raises:
        NotFoundError: The folder holds no version.
        VersionError: The version is broken, or grew from other base weights than those installed.
    """
    manifest = read_manifest(folder)
    if verify:
        verify_files(folder, manifest)
    base = manifest.base_model
    model = load_model(model_spec_of(manifest))
    if base_hash(model) != base["sha256"]:
        raise VersionError(
            f"{folder} grew from other weights of {base['name']!r} than those found here; "
            "install the base model that the version was trained on"
        )
    stack = stack_of(manifest)
    for task in tasks_of(manifest):
        stack.expand(model, task)
    read_weights(folder, model)
    return LoadedVersion(manifest, model, stack, read_router(folder))


def stack_of(manifest: Manifest) -> MethodStack:
    """The methods of a version, without their states."""
    scenario: Any = manifest.scenario
    return build_stack(configs_of(manifest), scenario, model_spec_of(manifest).kind)


def configs_of(manifest: Manifest) -> tuple[MethodConfig, ...]:
    """The settings of a version's methods, in order.

    Raises:
        VersionError: A method that this release does not know, or not with these settings.
    """
    try:
        return TypeAdapter(tuple[AnyMethodConfig, ...]).validate_python(manifest.methods)
    except ValidationError as error:
        raise VersionError(
            f"version {manifest.version} of {manifest.lineage} has methods that this release does "
            f"not know: {error}; use the release that wrote it"
        ) from error


def read_router(folder: Path) -> RouterStatistics:
    """The router's sums."""
    return RouterStatistics.from_state(load_file(folder / ROUTER_FILE))


def read_matrix(folder: Path) -> JsonObject:
    """The measurements of a version's lineage, as `History.as_dict` wrote them."""
    return json.loads((folder / MATRIX_FILE).read_text(encoding="utf-8"))


def write_matrix(folder: Path, matrix: JsonObject) -> None:
    """Write the accuracy matrices."""
    (folder / MATRIX_FILE).write_text(json.dumps(matrix, indent=2), encoding="utf-8")


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _json_default(value: object) -> Any:  # sets in PEFT's configs
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def held_out_of(
    texts: Sequence[str], labels: Sequence[str], limit: int
) -> tuple[list[str], list[str]]:
    """At most `limit` rows, evenly spread over the split."""
    step = held_out_step(len(texts), limit)
    return list(texts[::step]), list(labels[::step])


def held_out_step(num_rows: int, limit: int) -> int:
    """Every which row of a split is kept."""
    return max(1, -(-num_rows // limit))
