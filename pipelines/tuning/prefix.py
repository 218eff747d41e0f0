"""What trials share of their training: those that agree so far find the first task taught."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from pipelines.config import UpdateSpec
from pipelines.method_config import MethodConfig


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


def _without_idle(method: MethodConfig) -> dict[str, object]:
    """A method's settings; of idle numbers only whether they are 0, which may switch it off."""
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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, digest: str) -> Path | None:
        """The checkpoint after the first task, or None where nobody has taught it yet."""
        entry = self.folder / digest
        return entry if entry.is_dir() else None

    def put(self, digest: str, checkpoint: Path) -> None:
        """Keep a checkpoint that was written after the first task."""
        if self.find(digest) is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial_", dir=self.folder))
        shutil.copytree(checkpoint, partial, copy_function=_link, dirs_exist_ok=True)
        try:
            partial.rename(self.folder / digest)
        except OSError:  # another trial was first, with the same content
            shutil.rmtree(partial)
            if self.find(digest) is None:
                raise


def _link(source: str, target: str) -> None:
    """Another name for a file, where the file system has such; removing one leaves the other."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
