"""Where a store keeps a run: plain values that survive the trip to another machine."""

from __future__ import annotations

from dataclasses import dataclass


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
