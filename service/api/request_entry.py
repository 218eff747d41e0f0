"""What a fine-tuning request said and a spec cannot, kept as an entry of its job's metadata."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, ValidationError

from ratchet.service.api.views import RESERVED
from ratchet.service.errors import DatabaseSchemaError
from ratchet.service.schemas.openai import Hyperparameters
from ratchet.service.store.records import Job

REQUEST_ENTRY = f"{RESERVED}openai"
"""The name of the entry."""


class RequestEntry(BaseModel):
    """What is kept.

    Attributes:
        model: As the request named it.
        training_file: Id of the upload.
        validation_file: Id of the upload, or None.
        seed: Of every random choice, or None.
        hyperparameters: Those that the request gave.
        rates: The learning rates that a multiplier was held to; None without a multiplier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    training_file: str
    validation_file: str | None
    seed: int | None
    hyperparameters: Hyperparameters
    rates: dict[str, int | float | None] | None = None

    def to_text(self) -> str:
        """The entry's value."""
        kept = self.model_dump(exclude={"hyperparameters", "rates"})
        kept["hyperparameters"] = self.hyperparameters.model_dump(exclude_none=True)
        if self.rates is not None:
            kept["rates"] = self.rates
        return json.dumps(kept, sort_keys=True)


def request_entry(job: Job) -> RequestEntry | None:
    """What the job's request said; None where it came in another dialect.

    Raises:
        DatabaseSchemaError: The entry has another form than this release writes.
    """
    text = job.metadata.get(REQUEST_ENTRY)
    if text is None:
        return None
    try:
        return RequestEntry.model_validate_json(text)
    except ValidationError as error:
        raise DatabaseSchemaError(
            f"job {job.id}: its metadata's {REQUEST_ENTRY} is not of this release. Another release "
            "wrote it: run that one on this database, or bring back a backup"
        ) from error
