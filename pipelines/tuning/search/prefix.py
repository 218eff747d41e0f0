"""What trials share of their training: those that agree so far find the first task taught."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from ratchet.pipelines.spec.methods import MethodConfig
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.tuning.search.space import points_of

KEEP_FREE = 0.1


def first_task_digest(spec: UpdateSpec) -> str:
    """A name for what the first task of a lineage learns: equal for specs that learn the same.

    Fields that nothing reads before a second task is taught count as equal; so do those that
    concern neither training nor measuring.
    """
    methods = [_without_idle(method) for method in spec.methods]
    aside = {"gate": True, "tune": True, "lineage": True, "preset": True, "methods": True}
    settings = spec.model_dump(mode="json", exclude=aside)
    text = json.dumps([settings, methods], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def idle_fields(spec: UpdateSpec) -> frozenset[str]:
    """Fields of a spec that the first task does not depend on, as `methods.ewc.strength`."""
    return frozenset(
        f"methods.{method.type}.{name}"
        for method in spec.methods
        for name in method.idle_in_first_task
    )


def shares_first_tasks(tune: TuneSpec, job: UpdateJob) -> bool:
    """Whether two trials of a study can agree on a first task without being the same trial.

    All that the first task depends on must have few values, and something else must be searched.
    On top of a champion penalties hold from the first task on; worker groups teach for themselves.
    """
    fast = tune.parameters.keys() - idle_fields(job.spec)
    return (
        tune.share_prefixes
        and job.parent is None
        and len(job.stages) > 1
        and job.spec.scaling.num_workers <= 1
        and len(fast) < len(tune.parameters)
        and all(points_of(tune.parameters[name]) is not None for name in fast)
    )


def _without_idle(method: MethodConfig) -> dict[str, object]:
    """A method's settings; of idle numbers only whether they are 0, which may switch it off.

    No other value may; see `MethodConfig`.
    """
    return {
        name: bool(value)
        if name in method.idle_in_first_task and isinstance(value, int | float)
        else value
        for name, value in method.model_dump(mode="json").items()
    }


class PrefixShelf:
    """First tasks already taught, by digest, each as the checkpoint that a trial goes on from.

    Several processes may put and take at once: an entry appears whole or not at all, and the first
    one stays.

    Args:
        folder: Where they lie; all trials must reach it.
        keep_free: Share of the disk that stays free: a first task that would not leave it is not
            kept, and taught again by whoever needs it.
    """

    def __init__(self, folder: Path, keep_free: float = KEEP_FREE) -> None:
        self.folder = folder
        self.keep_free = keep_free

    def take(self, digest: str, checkpoint: Path) -> bool:
        """Give a trial a checkpoint of its own after the first task, if somebody has taught that.

        Args:
            digest: The first task's name.
            checkpoint: Where it goes; nothing is there yet.

        Returns:
            Whether there was one. What happens to the shelf later does not matter to the trial.
        """
        entry = self.folder / digest
        if not entry.is_dir():
            return False
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        return _put(entry, checkpoint)

    def put(self, digest: str, checkpoint: Path) -> None:
        """Keep a checkpoint that was written after the first task."""
        entry = self.folder / digest
        self.folder.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(self.folder)
        if entry.is_dir() or disk.free < self.keep_free * disk.total:
            return
        with suppress(OSError, shutil.Error):  # it can be taught again
            _put(checkpoint, entry)


def _put(source: Path, target: Path) -> bool:
    """Give a folder another name, whole or not at all; False where it has gone."""
    partial = Path(tempfile.mkdtemp(prefix=".partial_", dir=target.parent))
    try:
        shutil.copytree(source, partial, copy_function=_link, dirs_exist_ok=True)
        partial.rename(target)
    except (OSError, shutil.Error):
        shutil.rmtree(partial, ignore_errors=True)
        if target.is_dir():  # another trial was first, with the same content
            return True
        if source.is_dir():
            raise
        return False
    return True


def _link(source: str, target: str) -> None:
    """Another name for a file, where the file system has such; removing one leaves the other."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
