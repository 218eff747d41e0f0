# pyright: reportUnknownMemberType=false
"""What the database keeps of a version: its manifest's summary, and what the gate said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.registry.manifest import Manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.driver.job_folder import finite
from ratchet.service.schemas.version_facts import VersionFacts
from ratchet.service.store.records import KnownVersion, NewVersion


def summary_of(manifest: Manifest) -> VersionFacts:
    """A manifest without its list of files."""
    return VersionFacts(
        base_model=manifest.base_model,
        scenario=manifest.scenario,
        tasks=manifest.task_names,
        labels=manifest.labels,
        methods=finite(manifest.methods),
        metrics=finite(manifest.metrics),
        created=manifest.created,
    )


def known_version(registry: Registry, lineage: str, number: int) -> KnownVersion:
    """A version that lies in the home.

    Raises:
        VersionError: Its manifest is broken.
    """
    manifest = registry.manifest(lineage, number)
    return KnownVersion(number, manifest.parent, summary_of(manifest), manifest.created)


def check_result(result: Mapping[str, Any], lineage: str) -> None:
    """Make sure that a result is what an update of a lineage gives, before anything rests on it.

    Raises:
        VersionError: It is not; says which field, and its value.
    """
    gate = result.get("gate")
    run = result.get("run")
    rules = {
        "lineage": result.get("lineage") == lineage,
        "version": type(result.get("version")) is int,
        "promoted": isinstance(result.get("promoted"), bool),
        "gate": isinstance(gate, Mapping) and isinstance(gate.get("reasons"), list),
        "metrics": isinstance(result.get("metrics"), Mapping),
        "run": run is None or isinstance(run, str),
    }
    for field, holds in rules.items():
        if not holds:
            raise VersionError(
                f"result.{field}: {result.get(field)!r:.200} is not what an update of {lineage} "
                "gives. Submit the job anew"
            )


def new_version(
    registry: Registry, result: Mapping[str, Any], claimed: int | None, refusal: str | None
) -> NewVersion:
    """What an update's result says of its version.

    Args:
        registry: Where the version lies.
        result: What `run_update` returned, checked.
        claimed: The version that the job's present attempt was to start from.
        refusal: Why the version may not become champion whatever the gate says, or None.

    Raises:
        VersionError: Its manifest is broken.
        NotFoundError: There is no such version.
    """
    lineage, number = str(result["lineage"]), int(result["version"])
    manifest = registry.manifest(lineage, number)
    reasons = [str(reason) for reason in result["gate"]["reasons"]]
    if refusal is None and manifest.parent != claimed:
        refusal = f"it was taught from {manifest.parent}, and {claimed} became champion meanwhile"
    promoted = bool(result["promoted"]) and refusal is None
    return NewVersion(
        number=number,
        parent=manifest.parent,
        manifest=summary_of(manifest),
        decision="promoted" if promoted else "refused",
        reasons=reasons if refusal is None else [*reasons, refusal],
        base=dict(manifest.base_model),
    )
