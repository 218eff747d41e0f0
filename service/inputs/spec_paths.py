# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""The fields of a raw spec that name data, a model or a lineage: what a stranger may not choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.spec.methods import METHOD_CONFIGS

SPLITS = ("train", "validation", "test")
_URI_FIELDS = frozenset(field for config in METHOD_CONFIGS.values() for field in config.uri_fields)
PATH_FIELDS = frozenset({*SPLITS, "name", "out_of_scope"}) | _URI_FIELDS
"""Names of fields that hold paths, wherever they stand."""


@dataclass(frozen=True)
class NamedPath:
    """A place in a raw spec that holds a path.

    Attributes:
        where: Path of the field.
        section: The mapping or list that holds it.
        key: Its name or index there.
    """

    where: str
    section: JsonObject | list[Json]
    key: str | int

    @property
    def value(self) -> str:
        """The path that stands there."""
        return self.section[self.key]  # pyright: ignore[reportArgumentType, reportCallIssue, reportReturnType]

    def put(self, value: str) -> None:
        """Put another path there."""
        self.section[self.key] = value  # pyright: ignore[reportArgumentType, reportCallIssue]


def data_paths(raw: JsonObject) -> Iterator[NamedPath]:
    """Every place in a raw spec that names data, whatever else is wrong with the spec."""
    yield from _splits("stream", raw.get("stream"))
    for index, task in enumerate(_list(raw.get("tasks"))):
        yield from _splits(f"tasks[{index}]", task)
    evaluation = raw.get("evaluation")
    if isinstance(evaluation, dict):
        yield from _splits("evaluation.retention", evaluation.get("retention"))
    routing = raw.get("routing")
    if isinstance(routing, dict) and isinstance(routing.get("out_of_scope"), str):
        yield NamedPath("routing.out_of_scope", routing, "out_of_scope")
    for index, method in enumerate(_list(raw.get("methods"))):
        yield from _method_uris(index, method)


def _splits(where: str, section: Json) -> Iterator[NamedPath]:
    if isinstance(section, dict):
        for split in SPLITS:
            if isinstance(section.get(split), str):
                yield NamedPath(f"{where}.{split}", section, split)


def _method_uris(index: int, method: Json) -> Iterator[NamedPath]:
    if not isinstance(method, dict):
        return
    kind = method.get("type")
    config = METHOD_CONFIGS.get(kind) if isinstance(kind, str) else None
    for field in config.uri_fields if config is not None else ():
        uris = _list(method.get(field))
        for place, uri in enumerate(uris):
            if isinstance(uri, str):
                yield NamedPath(f"methods[{index}].{field}[{place}]", uris, place)


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def searched_paths(raw: Mapping[str, Json]) -> Iterator[str]:
    """Names of searched fields (`tune.parameters`) whose values could smuggle in a path."""
    tune = raw.get("tune")
    parameters = tune.get("parameters") if isinstance(tune, Mapping) else None
    for name, range_ in parameters.items() if isinstance(parameters, Mapping) else ():
        parts = str(name).split(".")
        if len(parts) < 2 or PATH_FIELDS.intersection(parts) or _holds_fields(range_):
            yield str(name)


def _holds_fields(range_: Json) -> bool:
    """Whether a choice offers whole mappings, and so fields within fields."""
    choices = range_.get("choice") if isinstance(range_, Mapping) else None
    return any(_has_mapping(choice) for choice in _list(choices))


def _has_mapping(value: Json) -> bool:
    return isinstance(value, Mapping) or any(_has_mapping(part) for part in _list(value))
