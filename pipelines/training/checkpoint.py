"""Checkpoints of a run: everything needed to go on as if nothing had happened.

Weights and optimizer are the same on every rank and are written once, or where they are sharded
each rank writes its part; random state and the methods' state (a shard of the replay memory) are
each rank's own. Tensors go to safetensors, the rest to
JSON.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file, save_file
from torch import Tensor

from ratchet.pipelines.files.atomic_file import put_on_disk, rename_for_good
from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.methods.base import MemoryRow, MethodState
from ratchet.pipelines.models.shards import own_part
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.training.run_state import HINT, RunState, read_run_state, write_run_state
from ratchet.pipelines.training.sharded_state import read_shards, write_shards
from ratchet.pipelines.training.workers import AnyWorkers, SingleWorker

SHARED_FILE = "shared.safetensors"
STATE_FILE = "state.json"
KEPT = 2
PARTIAL = ".partial_"


@dataclass
class Checkpoint:
    """What one rank puts into a checkpoint and gets back.

    Attributes:
        state: Where the run stands and what was measured.
        shared: Tensors that are equal on every rank.
        own: Tensors of this rank.
        methods: State of each method on this rank.
        sharded: Tensors of which this rank holds its part; in a checkpoint that was read they are
            still in its folder.
        folder: Where it was read from.
    """

    state: RunState
    shared: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    methods: dict[str, MethodState] = field(default_factory=dict)
    sharded: dict[str, Tensor] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class _PlainState:
    """A method's state without its tensors."""

    values: dict[str, object]
    rows: list[MemoryRow]


def write_checkpoint(checkpoint: Checkpoint, folder: Path, rank: int) -> None:
    """Write this rank's files into a folder; rank 0 writes what is shared too."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, methods = split_states(checkpoint.methods)
    own = {f"own/{name}": tensor for name, tensor in checkpoint.own.items()} | tensors
    save_file(_contiguous(own), folder / f"rank_{rank:05d}.safetensors")
    (folder / f"rank_{rank:05d}.json").write_text(json.dumps(methods), encoding="utf-8")
    if checkpoint.sharded:
        write_shards(folder, checkpoint.sharded)
    if rank == 0:
        save_file(_contiguous(checkpoint.shared), folder / SHARED_FILE)
        write_run_state(folder / STATE_FILE, checkpoint.state)


def read_checkpoint(folder: Path, rank: int) -> Checkpoint:
    """What `write_checkpoint` wrote for this rank.

    Raises:
        VersionError: A release that keeps them in another format wrote it.
    """
    state = read_run_state(folder / STATE_FILE)
    tensors = load_file(folder / f"rank_{rank:05d}.safetensors")
    methods = json.loads((folder / f"rank_{rank:05d}.json").read_text(encoding="utf-8"))
    return Checkpoint(
        state=state,
        shared=load_file(folder / SHARED_FILE),
        own=under(tensors, "own"),
        methods=join_states(tensors, methods),
        folder=folder,
    )


def restore_shards(saved: Checkpoint, model: TaughtModel) -> None:
    """Read this worker's parts of a checkpoint, once the model has its structure."""
    described = saved.state.sharded
    if not described:
        return
    assert saved.folder is not None, "it was read from there"
    for key, tensor in read_shards(saved.folder, described, model).items():
        section, _, rest = key.partition("/")
        if section == "methods":
            kind, _, name = rest.partition("/")
            saved.methods[kind].tensors[name] = own_part(tensor)
        else:
            saved.shared[key] = tensor if section == "model" else own_part(tensor)


def split_states(states: Mapping[str, MethodState]) -> tuple[dict[str, Tensor], JsonObject]:
    """Method states as one flat mapping of tensors (`type/name`) and one of JSON values by type."""
    tensors: dict[str, Tensor] = {}
    values: JsonObject = {}
    for kind, state in states.items():
        tensors |= {f"{kind}/{name}": tensor for name, tensor in state.tensors.items()}
        values[kind] = {"values": state.values, "rows": [asdict(row) for row in state.rows]}
    return tensors, values


def join_states(tensors: Mapping[str, Tensor], values: JsonObject) -> dict[str, MethodState]:
    """What `split_states` took apart."""
    found = {kind: checked(_PlainState, own, kind, HINT) for kind, own in values.items()}
    return {
        kind: MethodState(under(tensors, kind), own.values, own.rows) for kind, own in found.items()
    }


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with `prefix/`, without it."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory: safetensors refuses aliases."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


class CheckpointStore(Protocol):
    """Where checkpoints of a run go."""

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill a folder, then make it the latest checkpoint, all or nothing."""
        ...

    def latest(self) -> Path | None:
        """The folder of the latest complete checkpoint."""
        ...


class FolderCheckpoints:
    """Checkpoints in a folder that every worker of the group reaches. Keeps the last two.

    Args:
        folder: Where they go.
        workers: The worker group; all of them call `save` and `latest`, in the same order.
    """

    def __init__(self, folder: Path, workers: AnyWorkers | None = None) -> None:
        self.folder = folder
        self.workers = workers or SingleWorker()
        self._has_cleared = False

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Write under a temporary name, then rename: no crash leaves half a checkpoint.

        Every rank writes its files there; the first one gives the folder its name once they are on
        the disk, and nobody goes on before that.
        """
        partial = self.folder / self._partial_name(name)
        write(partial)
        self.workers.barrier()
        if self.workers.rank == 0:
            put_on_disk(partial)
            target = self.folder / name
            shutil.rmtree(target, ignore_errors=True)
            rename_for_good(partial, target)
            for old in self._complete()[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        self.workers.barrier()

    def _partial_name(self, name: str) -> str:
        """A name that nobody else uses: of a killed group a worker may live a moment longer."""
        token = None
        if self.workers.rank == 0:
            if not self._has_cleared:
                self._has_cleared = True
                for left in self.folder.glob(f"{PARTIAL}*"):
                    shutil.rmtree(left, ignore_errors=True)
            token = secrets.token_hex(4)
        return f"{PARTIAL}{name}_{self.workers.gather(token)[0]}"

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None; the first rank looks for all."""
        complete = self._complete() if self.workers.rank == 0 else []
        name = self.workers.gather(complete[-1].name if complete else None)[0]
        return None if name is None else self.folder / name

    def path(self, name: str) -> Path:
        """The folder of a checkpoint that was saved."""
        return self.folder / name

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
