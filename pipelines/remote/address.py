"""Where a store keeps a run: plain values that survive the trip to another machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.remote.location import StoreLocation

if TYPE_CHECKING:
    from pipelines.remote.runs import RemoteRun


@dataclass(frozen=True)
class RunAddress:
    """Where a store keeps a run.

    Attributes:
        store: `s3://BUCKET/PREFIX`.
        lineage: Name of the lineage.
        run: Name of the run; the same for every attempt of the same command.
        data: Hash of the data that is taught: a checkpoint of other data is of no use.
    """

    store: str
    lineage: str
    run: str
    data: str

    def open(self) -> RemoteRun:
        """The run, through a client of this process."""
        from pipelines.remote.objects import ObjectStore
        from pipelines.remote.runs import RemoteRun

        return RemoteRun(ObjectStore(StoreLocation.parse(self.store)), self)
