# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""From a job in the database to what its driver is told: uploads as files, the Ray to use."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.service.control.launcher import Attempt
from ratchet.service.driver.job_folder import Assignment, JobFolder
from ratchet.service.errors import FileNotStoredError
from ratchet.service.inputs.blobs import Blobs
from ratchet.service.inputs.data_uris import DataRoots
from ratchet.service.inputs.spec_paths import NamedPath, data_paths
from ratchet.service.schemas.file_ids import is_file_id
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database
from ratchet.service.store.files import get_file
from ratchet.service.store.records import Job


def assignment_of(db: Database, settings: Settings, job: Job) -> Assignment:
    """What the driver of a job is told.

    Raises:
        DataError: An upload that the spec names is gone, or what it names does not lie under the
            data roots any more.
    """
    address = settings.ray_address if settings.launcher == "ray" else None
    spec = _with_data(db, settings, job.spec)
    home, uri = str(settings.home), settings.tracking_uri
    return Assignment(job.id, job.kind, spec, home, uri, address, job.parent)


def attempt_of(settings: Settings, job: Job) -> Attempt:
    """The attempt of a job that runs, with what its driver needs."""
    cpus, gpus = _driver_needs(job)
    return Attempt(job.id, job.attempt, folder_of(settings, job), cpus, gpus)


def folder_of(settings: Settings, job: Job) -> JobFolder:
    """A job's folder."""
    return JobFolder.of(settings.home, job.id)


def _driver_needs(job: Job) -> tuple[float, float]:
    """CPUs and GPUs of the driver itself: it computes only where an update has no workers."""
    given = job.spec.get("scaling")
    scaling = given if isinstance(given, Mapping) else {}
    if job.kind != "update" or scaling.get("num_workers", 0) != 0:
        return 0.0, 0.0
    gpus = scaling.get("gpus_per_worker", 0)
    return 1.0, float(gpus) if isinstance(gpus, int | float) else 0.0


def _with_data(db: Database, settings: Settings, given: Mapping[str, Json]) -> JsonObject:
    """A spec with the files of uploads in the place of their ids, and every other path resolved.

    Paths are looked at again: since the job came in, a link may have been laid below a root.
    """
    spec = copy.deepcopy(dict(given))
    roots = DataRoots(settings.data_roots, settings.home, settings.store)
    blobs = Blobs(settings.home, settings.max_upload_bytes)
    problems = list(_model_problems(roots, spec))
    for place in data_paths(spec):
        if is_file_id(place.value):
            found = _upload(db, blobs, place)
        else:
            found = roots.checked(place.value, place.where)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            place.put(found)
    if problems:
        raise DataError(problems)
    return spec


def _model_problems(roots: DataRoots, spec: Mapping[str, Json]) -> Iterator[Problem]:
    model = spec.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    if isinstance(name, str) and name.startswith("/") and not roots.is_allowed_folder(Path(name)):
        yield Problem("model.name", "no folder that a model may lie in", name)


def _upload(db: Database, blobs: Blobs, place: NamedPath) -> str | Problem:
    path = _blob(db, blobs, place.value)
    if path is None:
        hint = "Upload it again, and submit the job anew"
        return Problem(place.where, "the upload was deleted", place.value, hint)
    return str(path)


def _blob(db: Database, blobs: Blobs, file_id: str) -> Path | None:
    try:
        path = blobs.path(get_file(db, file_id))
    except FileNotStoredError:
        return None
    return path if path.is_file() else None
