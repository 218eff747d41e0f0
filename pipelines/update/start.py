"""Where an update starts: at a version, or at the base model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.registry.manifest import Manifest, read_manifest, verify_files
from ratchet.pipelines.types import Task
from ratchet.pipelines.version import tasks_of


@dataclass(frozen=True)
class Start:
    """Where an update starts.

    Attributes:
        parent: Folder of the version that it grows from, or None for the base model.
        manifest: That version's manifest.
    """

    parent: Path | None
    manifest: Manifest | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that the parent knows."""
        return () if self.manifest is None else tasks_of(self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each class id that the parent knows."""
        return () if self.manifest is None else tuple(self.manifest.labels)


def open_start(parent: Path | None) -> Start:
    """The start of an update: a version's folder, every file of it checked, or None for the base.

    Raises:
        NotFoundError: The folder holds no version.
        VersionError: The version is broken.
    """
    if parent is None:
        return Start(None, None)
    manifest = read_manifest(parent)
    verify_files(parent, manifest)
    return Start(parent, manifest)
