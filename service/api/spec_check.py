# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A spec from a stranger: everything that is wrong with it at once, and nothing of it trusted."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.files.patterns import Visits
from ratchet.pipelines.models.source import ENTRY_POINT_GROUP, MODEL_PACKAGES
from ratchet.pipelines.spec.problems import parameter_path
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.service.inputs.data_uris import MAX_VISITS, DataRoots
from ratchet.service.inputs.spec_paths import data_paths, searched_paths
from ratchet.service.schemas.file_ids import FILE_PREFIX, is_file_id

_HUB_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$")
_LINEAGE = re.compile(r"^(?P<lineage>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})(@[a-z0-9]{1,20})?$")
_NOWHERE = Path("/dev/null/spec")
"""A folder that cannot exist: no relative path of a stranger is ever looked up."""
_UNREAD = "s3://refused"
_KNOWN_MODEL = next(iter(MODEL_PACKAGES))

UploadPath = Callable[[str], Path | None]
"""The blob of an upload by its id; None where the caller may see no such upload."""
SeesLineage = Callable[[str], bool]


@dataclass(frozen=True)
class CheckedSpec:
    """A spec that can be run.

    Attributes:
        raw: As it was given, with every path absolute and links resolved; uploads by their ids.
        spec: The validated spec; uploads as paths.
    """

    raw: JsonObject
    spec: UpdateSpec


@dataclass(frozen=True)
class SpecRules:
    """What the specs of one caller may name.

    Attributes:
        roots: Where data may lie.
        upload: Finds uploads.
        sees: Whether the caller may use a lineage.
        is_study: Whether the spec needs a section `tune`.
    """

    roots: DataRoots
    upload: UploadPath
    sees: SeesLineage
    is_study: bool = False

    def check(self, given: Mapping[str, Json]) -> CheckedSpec:
        """Validate a raw spec.

        Raises:
            SpecError: With every problem found.
        """
        stored = copy.deepcopy(dict(given))
        read = copy.deepcopy(stored)
        problems = [*self._paths(stored, read), *self._names(stored, read)]
        spec: UpdateSpec | None = None
        try:
            spec = parse_spec(read, _NOWHERE)
        except SpecError as error:
            problems += error.problems
        if problems or spec is None:
            raise SpecError(problems)
        return CheckedSpec(stored, spec)

    def _paths(self, stored: JsonObject, read: JsonObject) -> Iterator[Problem]:
        """Check every path, and leave none in `read` that could be looked up unchecked."""
        visits = Visits(MAX_VISITS)
        pairs = zip(data_paths(stored), data_paths(read), strict=True)
        for kept, looked_up in pairs:
            found = self._data(kept.value, kept.where, visits)
            if isinstance(found, Problem):
                looked_up.put(_UNREAD)
                yield found
                continue
            looked_up.put(found)
            if not is_file_id(kept.value):
                kept.put(found)

    def _data(self, uri: str, where: str, visits: Visits) -> str | Problem:
        if not uri.startswith(FILE_PREFIX):
            return self.roots.checked(uri, where, visits)
        path = self.upload(uri) if is_file_id(uri) else None
        if path is None:
            return Problem(where, "no such upload", uri, "Upload the file with POST /v1/files")
        return str(path)

    def _names(self, stored: JsonObject, read: JsonObject) -> Iterator[Problem]:
        yield from self._model(stored, read)
        yield from self._joint(read)
        lineage = stored.get("lineage")
        if isinstance(lineage, str) and _LINEAGE.match(lineage) and not self.sees(lineage):
            yield Problem("lineage", "the key may not use this lineage", lineage)
        if self.is_study and stored.get("tune") is None:
            yield Problem("tune", "a study needs this section")
        for name in searched_paths(stored):
            hint = "Search single fields of training, methods, routing or data"
            yield Problem(parameter_path(name), "this field cannot be searched", hint=hint)

    def _model(self, stored: JsonObject, read: JsonObject) -> Iterator[Problem]:
        model, shadow = stored.get("model"), read.get("model")
        name = model.get("name") if isinstance(model, dict) else None
        if not isinstance(model, dict) or not isinstance(shadow, dict) or not isinstance(name, str):
            return  # said by the validation
        if name.startswith("/"):
            folder = Path(name)
            if "\0" not in name and self.roots.is_allowed_folder(folder):
                model["name"] = shadow["name"] = str(folder.resolve())
                return
            shadow["name"] = _KNOWN_MODEL
            hint = "Name a folder below one of RATCHET_DATA_ROOTS of the service, or a Hub id"
            yield Problem("model.name", "no folder that a model may lie in", name, hint)
        elif not is_model_name(name):
            shadow["name"] = _KNOWN_MODEL
            allowed = f"a short name ({', '.join(short_names())}) or a Hub id, organization/model"
            yield Problem("model.name", f"should be {allowed}", name)

    def _joint(self, read: JsonObject) -> Iterator[Problem]:
        evaluation = read.get("evaluation")
        joint = evaluation.get("joint") if isinstance(evaluation, dict) else None
        if not isinstance(evaluation, dict) or not isinstance(joint, str):
            return
        match = _LINEAGE.match(joint)
        if match is None or not self.sees(match["lineage"]):
            evaluation["joint"] = None
            hint = "Name a lineage, or lineage@version"
            yield Problem("evaluation.joint", "no such lineage", joint, hint)


def short_names() -> list[str]:
    """The short names of installed model packages."""
    declared = [entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)]
    return sorted({*MODEL_PACKAGES, *declared})


def is_model_name(name: str) -> bool:
    """Whether a name is a short name, or has the form of a Hub id."""
    return name in short_names() or (bool(_HUB_ID.match(name)) and ".." not in name)
