"""What the database keeps of a version's manifest, and shows as `manifest`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class VersionFacts(BaseModel):
    """A manifest without its list of files.

    Attributes:
        base_model: Name, kind, pooling and dtype, and SHA-256 of the base weights.
        scenario: The scenario of the lineage.
        tasks: Names of the tasks, in the order they were learned.
        labels: Label of each class id.
        methods: The methods' configs, in order.
        metrics: The final metrics.
        created: Unix seconds.
    """

    model_config = ConfigDict(frozen=True)

    base_model: dict[str, str]
    scenario: str
    tasks: list[str]
    labels: list[str]
    methods: list[dict[str, JsonValue]]
    metrics: dict[str, JsonValue]
    created: float
