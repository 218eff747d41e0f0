"""What all sections of a spec share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveFloat, Tag

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]

AUTO = "auto"
NUMBER_TAG = "number"
"""Stands behind the path of a field that is a number or `auto`, in what pydantic says of it."""


def _number_or_auto(value: Any) -> str:
    return AUTO if value == AUTO else NUMBER_TAG


RateOrAuto = Annotated[
    Annotated[PositiveFloat, Tag(NUMBER_TAG)] | Annotated[Literal["auto"], Tag(AUTO)],
    Discriminator(_number_or_auto),
]
StrengthOrAuto = Annotated[
    Annotated[float, Field(ge=0), Tag(NUMBER_TAG)] | Annotated[Literal["auto"], Tag(AUTO)],
    Discriminator(_number_or_auto),
]


class SpecSection(BaseModel):
    """Unknown fields and numbers that are not finite are refused; nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
