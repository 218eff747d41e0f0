"""The mirror of a lineage in MLflow's model registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.errors import TrackingError
from ratchet.pipelines.registry.aliases import Aliases, Registration
from ratchet.pipelines.tracking.mlflow_client import is_server, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
from ratchet.pipelines.tracking.mlflow_client import find_run

NUMBER_TAG = "ratchet.version"
FOLDER_TAG = "ratchet.folder"


def mirror_lineage(
    tracking_uri: str, lineage: str, aliases: Aliases, versions: Mapping[int, Path]
) -> None:
    """Make MLflow's registered model of a lineage say what the aliases say.

    Doing it again changes nothing. MLflow numbers its model versions itself; the tag
    `ratchet.version` holds ours.

    Args:
        tracking_uri: The MLflow store.
        lineage: Name of the lineage and of the registered model.
        aliases: What is to be mirrored.
        versions: Folders of the complete versions by number.

    Raises:
        TrackingError: When MLflow fails, or a server lacks the run that a version came from.
    """
    with mlflow_client(tracking_uri) as client:
        _ensure_model(client, lineage)
        mirrored = _mirrored(client, lineage)
        for number in sorted(versions.keys() - mirrored.keys()):
            known = aliases.registered.get(number, Registration())
            mirrored[number] = _create(
                client, tracking_uri, lineage, number, known, versions[number]
            )
        _move_aliases(client, lineage, aliases, mirrored)


def _ensure_model(client: MlflowClient, lineage: str) -> None:
    if not client.search_registered_models(f"name = '{lineage}'", max_results=1):
        client.create_registered_model(lineage, description=f"Versions of the lineage {lineage}.")


def _mirrored(client: MlflowClient, lineage: str) -> dict[int, str]:
    """MLflow's number of each of our versions that it knows."""
    found = client.search_model_versions(f"name = '{lineage}'")
    return {int(mv.tags[NUMBER_TAG]): str(mv.version) for mv in found if NUMBER_TAG in mv.tags}


def _create(
    client: MlflowClient,
    tracking_uri: str,
    lineage: str,
    number: int,
    known: Registration,
    folder: Path,
) -> str:
    run_id = find_run(client, lineage, known.run) if known.run else None
    source = folder.resolve().as_uri()
    if is_server(tracking_uri):
        # A server takes no local path as a source: the run's copy of the manifest stands for it.
        if run_id is None:
            raise TrackingError(
                f"{lineage}@{number}: the server has no run of this version yet. "
                "Send the update's tracking data first (ratchet track --send)"
            )
        source = f"runs:/{run_id}/version"
    metrics = {name: value for name, value in known.metrics.items() if value is not None}
    tags = {NUMBER_TAG: str(number), FOLDER_TAG: str(folder.resolve())}
    tags |= {f"ratchet.{name}": f"{value:.6g}" for name, value in metrics.items()}
    created = client.create_model_version(lineage, source, run_id=run_id, tags=tags)
    return str(created.version)


def _move_aliases(
    client: MlflowClient, lineage: str, aliases: Aliases, mirrored: Mapping[int, str]
) -> None:
    model = client.get_registered_model(lineage)
    now = {alias: str(version) for alias, version in model.aliases.items()}
    for alias, number in (("champion", aliases.champion), ("challenger", aliases.challenger)):
        wanted = mirrored.get(number) if number is not None else None
        if wanted is None and alias in now:
            client.delete_registered_model_alias(lineage, alias)
        elif wanted is not None and now.get(alias) != wanted:
            client.set_registered_model_alias(lineage, alias, wanted)
