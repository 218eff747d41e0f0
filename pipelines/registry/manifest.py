"""The manifest of a version: what it is, and the hash of every file.

It is written last: no manifest, no version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypedDict

from ratchet.pipelines.errors import NotFoundError, VersionError
from ratchet.pipelines.files.atomic_file import put_on_disk, write_atomically
from ratchet.pipelines.files.json_value import JsonObject

MANIFEST_FILE = "manifest.json"
FORMAT = 2


class TaskRecord(TypedDict):
    """A task as a manifest has it; see `ratchet.pipelines.types.Task`."""

    id: int
    name: str
    class_ids: list[int]
    stage: int


@dataclass(frozen=True)
class Manifest:
    """What a version says of itself.

    Attributes:
        lineage: Name of the lineage.
        version: Number within the lineage, from 1.
        parent: The version that it grew from, or None.
        created: Unix seconds.
        base_model: Name, kind, pooling and dtype, and SHA-256 of the base weights.
        scenario: The scenario of the lineage.
        methods: The methods' configs, in order.
        labels: Label of each class id.
        tasks: Id, name, class ids and stage of every task.
        metrics: The final metrics.
        routing: `threshold` and `accept_fraction` of the router, `max_length` of texts in tokens.
        answering: How requests that name no task are answered; see `AnswerRule`.
        strengths: What the search for strengths found last, by method: a later one begins there.
        libraries: Versions of the libraries that wrote it.
        files: SHA-256 of every file by relative path.
        format: Number of the on-disk format.
    """

    lineage: str
    version: int
    parent: int | None
    created: float
    base_model: dict[str, str]
    scenario: str
    methods: list[JsonObject]
    labels: list[str]
    tasks: list[TaskRecord]
    metrics: dict[str, float | None] = field(default_factory=dict)
    routing: dict[str, int | float] = field(default_factory=dict)
    answering: JsonObject = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def kind(self) -> str:
        """The kind of model: `classifier` or `causal_lm`."""
        return self.base_model.get("kind", "classifier")

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, in the order they were learned."""
        return [task["name"] for task in self.tasks]

    @property
    def label_names(self) -> list[str]:
        """Every label once, in the order learned, as answers to `auto` list them."""
        pairs = (self.labels[index] for task in self.tasks for index in task["class_ids"])
        return list(dict.fromkeys(pairs))


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file below a folder, bring it to the disk and write the manifest, last."""
    files = {name: file_hash(folder / name) for name in sorted(_files_below(folder))}
    complete = Manifest(**{**asdict(manifest), "files": files})
    text = json.dumps(asdict(complete), indent=2, ensure_ascii=False)
    put_on_disk(folder)
    write_atomically(folder / MANIFEST_FILE, text)
    return complete


def _files_below(folder: Path) -> set[str]:
    """Every file of a version by relative path, but for the manifest itself."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return names - {MANIFEST_FILE}


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest without looking at the files.

    Raises:
        NotFoundError: There is no version in the folder.
        VersionError: The manifest is broken or of a newer format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise NotFoundError(f"{folder} holds no version: {MANIFEST_FILE} is missing")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        number = int(raw["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise VersionError(
            f"{path} is not a manifest: {error!r}; restore it from a copy"
        ) from error
    if number > FORMAT:
        raise VersionError(
            f"{path} has format {number}, and this release reads {FORMAT}; upgrade ratchet"
        )
    if 0 < number < FORMAT:
        raise VersionError(
            f"{path} has format {number}, which an earlier release wrote, and this release reads "
            f"{FORMAT}; use that release, or teach the lineage anew"
        )
    try:
        manifest = Manifest(**raw)
    except TypeError as error:
        raise VersionError(f"{path} is not a manifest of format {number}: {error}") from error
    wrong = _wrongly_typed(manifest)
    if number < 1 or wrong:
        what = f"{wrong} has a value of another type" if wrong else f"there is no format {number}"
        raise VersionError(f"{path} is not a manifest: {what}; restore it from a copy")
    return manifest


def _wrongly_typed(manifest: Manifest) -> str | None:
    """The first field that cannot be used as it is."""
    kinds = {"base_model": dict, "methods": list, "labels": list, "tasks": list, "files": dict}
    for name, kind in kinds.items():
        if not isinstance(getattr(manifest, name), kind):
            return name
    return None if all(isinstance(h, str) for h in manifest.files.values()) else "files"


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every file of a version against its hash.

    Raises:
        VersionError: A path that leaves the folder, a file that is missing, was changed or is not
            in the manifest.
    """
    root = folder.resolve()
    for name, expected in manifest.files.items():
        path = inside(root, name)
        if not path.is_file():
            raise VersionError(f"{folder}: the file {name} is missing; restore it from a copy")
        if file_hash(path) != expected:
            raise VersionError(
                f"{folder}: the file {name} was changed after it was written "
                "(its SHA-256 differs); restore it from a copy"
            )
    for name in sorted(_files_below(root) - manifest.files.keys()):
        raise VersionError(
            f"{folder}: the file {name} is not in the manifest, so nothing vouches for it; "
            "remove it"
        )


def inside(root: Path, name: str) -> Path:
    """The path of a file of a version.

    Raises:
        VersionError: The name is absolute, climbs out, or a link leads out of the folder.
    """
    pure = PurePosixPath(name)
    strange = pure.is_absolute() or ".." in pure.parts or "\0" in name
    path = root if strange else (root / name).resolve()
    if strange or not path.is_relative_to(root):
        raise VersionError(f"{root}: the manifest names {name!r}, which lies outside the version")
    return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
