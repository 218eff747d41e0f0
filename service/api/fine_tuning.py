# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A fine-tuning request in OpenAI's words, made into a spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.spec.presets import preset_names, read_preset
from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.service.api.access import Caller
from ratchet.service.api.backend import Backend
from ratchet.service.api.base_models import (
    RATES,
    check_base_model,
    known_lineage,
    last_settings,
)
from ratchet.service.api.chats import holds_chats
from ratchet.service.api.problems import invalid_request
from ratchet.service.api.request_entry import REQUEST_ENTRY, RequestEntry
from ratchet.service.api.request_places import (
    KIND_ENTRY,
    LINEAGE_ENTRY,
    PRESET_ENTRY,
    TASK_ENTRY,
    hyperparameters_of,
)
from ratchet.service.api.submissions import Asked, own_file, refuse_reserved
from ratchet.service.api.uploads import labelled_file
from ratchet.service.errors import FileNotStoredError
from ratchet.service.schemas.openai import FineTuningRequest
from ratchet.service.store.records import File, NewEvent

DEFAULT_PRESET = "lora_replay_ewc"

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_CHAT_SUFFIXES = (".jsonl", ".ndjson", ".json")


class FineTuning:
    """One request.

    Args:
        backend: Where files and lineages are looked up.
        caller: Who asks.
        request: What is asked.

    Raises:
        InvalidRequestError: The request contradicts itself.
        UnknownModelError: `model` names nothing.
    """

    def __init__(self, backend: Backend, caller: Caller, request: FineTuningRequest) -> None:
        self._backend = backend
        self._caller = caller
        self._request = request
        self._metadata = request.metadata or {}
        self._told: list[NewEvent] = []

    def asked(self, idempotency_key: str | None) -> Asked:
        """The job to be queued."""
        refuse_reserved(self._metadata)
        lineage = known_lineage(self._backend, self._caller, self._request.model)
        settings = self._settings(lineage)
        raw: JsonObject = {
            **settings,
            "lineage": lineage or self._new_lineage(),
            "training": {**_section(settings, "training"), **self._training(settings)},
            "tasks": [self._task(_section(settings, "model").get("kind", "classifier"))],
        }
        return Asked(
            kind="update",
            raw=raw,
            metadata={**self._metadata, REQUEST_ENTRY: self._kept(settings)},
            idempotency_key=idempotency_key,
            told=tuple(self._told),
        )

    def _settings(self, lineage: str | None) -> JsonObject:
        preset = self._metadata.get(PRESET_ENTRY)
        if lineage is None:
            check_base_model(self._request.model)
            kind = self._metadata.get(KIND_ENTRY, "classifier")
            settings: JsonObject = {"model": {"name": self._request.model, "kind": kind}}
            return {**settings, "preset": preset or DEFAULT_PRESET}
        settings = last_settings(self._backend, lineage)
        if preset is None:
            return settings
        kept = {name: value for name, value in settings.items() if name != "methods"}
        return {**kept, "preset": preset}

    def _new_lineage(self) -> str:
        name = self._metadata.get(LINEAGE_ENTRY) or self._request.suffix
        if not name:
            message = "name the new lineage: a base model alone names none"
            hint = "Or give the name of a lineage as `model` to go on with it"
            raise invalid_request([Problem("suffix", message, hint=hint)])
        return name

    def _training(self, settings: Mapping[str, Json]) -> JsonObject:
        """The fields of the section `training` that the request sets."""
        place, given = hyperparameters_of(self._request)
        found: JsonObject = {}
        for field, value in (
            ("num_epochs", given.n_epochs),
            ("batch_size", given.batch_size),
            ("seed", self._request.seed),
        ):
            if value not in (None, "auto"):
                found[field] = value
        if isinstance(given.learning_rate_multiplier, float | int):
            where = f"{place}.learning_rate_multiplier"
            found |= _rates(settings, given.learning_rate_multiplier, where)
        return found

    def _task(self, kind: Json) -> JsonObject:
        train = self._file("training_file", self._request.training_file)
        task: JsonObject = {
            "name": self._metadata.get(TASK_ENTRY) or _task_name(train.filename),
            "train": self._data("training_file", train, kind),
        }
        if self._request.validation_file is not None:
            file = self._file("validation_file", self._request.validation_file)
            task["validation"] = self._data("validation_file", file, kind)
        return task

    def _file(self, field: str, file_id: str) -> File:
        try:
            return own_file(self._backend, self._caller, file_id)
        except FileNotStoredError as error:
            hint = "Upload it with POST /v1/files"
            raise invalid_request([Problem(field, "no such upload", file_id, hint)]) from error

    def _data(self, field: str, file: File, kind: Json) -> str:
        """The id of the upload that the job reads: chats are made into labelled texts first."""
        path = self._backend.blobs.path(file)
        is_chat = path.suffix in _CHAT_SUFFIXES and holds_chats(path)
        if kind != "classifier" or not is_chat:
            return file.id
        try:
            labelled = labelled_file(self._backend, file)
        except DataError as error:
            problems = [Problem(field, str(problem)) for problem in error.problems]
            raise invalid_request(problems) from error
        message = (
            f"{file.filename} holds chats: the last user message of each is taken as the text, the "
            "last assistant message as its label"
        )
        self._told.append(NewEvent(message, data={field: file.id, "read_as": labelled.id}))
        return labelled.id

    def _kept(self, settings: Mapping[str, Json]) -> str:
        """What the request said and a spec cannot, and the rates that a multiplier was held to."""
        hyperparameters = hyperparameters_of(self._request)[1]
        is_multiplied = isinstance(hyperparameters.learning_rate_multiplier, float | int)
        entry = RequestEntry(
            model=self._request.model,
            training_file=self._request.training_file,
            validation_file=self._request.validation_file,
            seed=self._request.seed,
            hyperparameters=hyperparameters,
            rates=_own_rates(settings) if is_multiplied else None,
        )
        return entry.to_text()


def _section(settings: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _own_rates(settings: Mapping[str, Json]) -> dict[str, float | None]:
    """The rates that the settings themselves name; of a multiplier, all are numbers."""
    named = {name: rate for name, rate in _section(settings, "training").items() if name in RATES}
    return {
        name: rate for name, rate in named.items() if rate is None or isinstance(rate, int | float)
    }


def _rates(settings: Mapping[str, Json], multiplier: float, where: str) -> dict[str, float]:
    """The learning rates, multiplied by what stands there in the request.

    Raises:
        InvalidRequestError: There is no number to multiply.
    """
    preset = settings.get("preset")
    below: Mapping[str, Json] = {}
    if isinstance(preset, str) and preset in preset_names():
        below = _section(read_preset(preset), "training")
    training: JsonObject = {**below, **_section(settings, "training")}
    rates = {"learning_rate": training.get("learning_rate", TrainingSpec().learning_rate)}
    if training.get("head_learning_rate") is not None:
        rates["head_learning_rate"] = training["head_learning_rate"]
    found: dict[str, float] = {}
    for name, rate in rates.items():
        if not isinstance(rate, float | int):
            message = f"the {name.replace('_', ' ')} is {rate!r}, found for each task"
            raise invalid_request([Problem(where, message, hint="Leave the multiplier out")])
        found[name] = rate * multiplier
    return found


def _task_name(filename: str) -> str:
    """A task's name from a file's: `banking.train.jsonl` is `banking`."""
    stem = PurePath(filename).name.split(".")[0]
    return _NOT_IN_A_NAME.sub("-", stem).strip("-_.")[:64] or "task"
