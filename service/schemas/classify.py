"""Bodies of requests and answers. Nothing here imports torch or ray.

Classification has the shape of vLLM's `/classify`, with a `route` for each text, because one
request can hold texts of different tasks and texts of none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_TEXTS = 256
MAX_CHARACTERS = 20_000
MAX_BODY_BYTES = 8 * 1024 * 1024


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_CHARACTERS, pattern=r"\S")
]
Texts = Annotated[
    list[Text],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(min_length=1, max_length=MAX_TEXTS),
]


class ClassifyRequest(BaseModel):
    """One text or several, and what shall answer them.

    Texts of more tokens than the version was trained on (`training.max_length`) are cut there, as
    in training.

    Attributes:
        model: `auto`, a task, `task@version`, a lineage, or `lineage/task` where a name is not
            unique.
        input: One text, or up to 256; each with at most 20,000 characters.
        strict: Whether a text that belongs to no task makes the whole request fail with 422.
    """

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(strict=True, min_length=1, max_length=256)] = "auto"
    input: Texts
    strict: Annotated[bool, Field(strict=True)] = False


class Route(BaseModel):
    """The choice of task for a text.

    Attributes:
        task: The task that the label was chosen from; None where the text belongs to none.
        version: The version that answered.
        score: Where the task was inferred: its probability among all tasks. 1 where the request
            named the task.
        margin: The score's lead over the second best task; 1 where the request named the task.
        abstained: Whether the text was rejected as belonging to no task.
    """

    task: str | None
    version: int
    score: float
    margin: float
    abstained: bool


class Classification(BaseModel):
    """The answer for one text.

    Attributes:
        index: Place of the text in the request.
        label: The most probable label, or None where the text was rejected.
        probs: Probability of each label considered, in the order of that model's `labels` in
            `/v1/models`; they sum to 1. Empty where the text was rejected.
        num_classes: Number of labels considered.
        route: Which task of which version answered.
    """

    index: int
    label: str | None
    probs: list[float]
    num_classes: int
    route: Route


class Usage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class ClassifyResponse(BaseModel):
    """Answers in the order of the texts."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classification]
    usage: Usage


class ModelCard(BaseModel):
    """Something that a request can name.

    Attributes:
        id: What to put into `model`.
        created: Unix seconds at which the version was made.
        root: The version behind it, `lineage@version`.
        parent: The base model.
        labels: The labels in the order of `probs`.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ratchet"
    root: str
    parent: str
    labels: list[str]


class ModelList(BaseModel):
    """Everything that a request can name."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class LineageHealth(BaseModel):
    """How a lineage is served.

    Attributes:
        lineage: Its name.
        serving: The version that answers; None where none of its champions can be loaded.
        champion: The version that the registry calls champion; None when the registry cannot be
            read.
        resident: Every version in memory, with the requests that use it now.
        refused: Why a version is not served, by version; under the empty name, why the lineage is
            not.
    """

    lineage: str
    serving: int | None = None
    champion: int | None = None
    resident: dict[int, int] = {}
    refused: dict[str, str]


class Health(BaseModel):
    """`ok`, or `degraded`: an older version answers for the champion, or nothing is watched."""

    status: Literal["ok", "degraded"]
    watching: bool
    lineages: list[LineageHealth]
