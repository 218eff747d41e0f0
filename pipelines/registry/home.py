"""Where state lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.attachment import attach_object_store


@dataclass(frozen=True)
class Home:
    """Where state lives.

    Attributes:
        folder: Versions, runs, and by default the MLflow store.
        tracking_uri: The MLflow store, or None to keep the outbox only.
    """

    folder: Path
    tracking_uri: str | None

    @staticmethod
    def at(folder: Path, tracking_uri: str | None = None, store: str | None = None) -> Home:
        """A home with its own MLflow store, unless another is given.

        Args:
            folder: Where state lives.
            tracking_uri: The MLflow store.
            store: The store on S3 that the home is a copy of, where it is not known there yet.

        Raises:
            ObjectStoreError: The store cannot be used.
            SpecError: The home cannot be a copy of it.
        """
        folder = folder.resolve()
        if store is not None:
            attach_object_store(folder, store)
        return Home(folder, tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")

    @property
    def registry(self) -> Registry:
        """The versions below this home."""
        return Registry(self.folder, self.tracking_uri)

    def runs(self, lineage: str) -> Path:
        """Where the runs of a lineage lie."""
        return self.folder / "runs" / lineage
