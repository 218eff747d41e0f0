"""What the service reads from its surroundings: `RATCHET_…` variables, once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri


def _default_database(known: Mapping[str, object]) -> SecretStr:
    return SecretStr(f"sqlite:///{_home(known) / 'ratchet.db'}")


def _default_tracking(known: Mapping[str, object]) -> str:
    return default_tracking_uri(_home(known))


def _default_roots(known: Mapping[str, object]) -> tuple[str, ...]:
    return (str(_home(known) / "files"),)


def _home(known: Mapping[str, object]) -> Path:
    """The home, from the settings that are known before one that follows from it."""
    home = known["home"]
    assert isinstance(home, Path), "it is checked first"
    return home


class Settings(BaseSettings):
    """The settings of every part of the service, the same in all of its processes.

    Attributes:
        home: The folder that keeps all state; made absolute.
        store: The store on S3 that the home is a copy of, `s3://bucket/prefix`, or none.
        database_url: Where the truth lies: `sqlite:///…` or `postgresql://…`.
        tracking_uri: The MLflow store or server.
        ray_jobs_url: Where Ray's Jobs API answers.
        ray_address: The Ray that jobs with workers join.
        launcher: Whether jobs run as Ray jobs or as plain processes of this machine.
        api_host: The address that the API listens at.
        api_port: Its port.
        router_url: Where the router answers.
        data_roots: Folders and URI prefixes that a spec may name data under.
        max_upload_bytes: Size of the largest upload.
        max_key_bytes: Size of the uploads that a key holds, all together; admins' have no limit.
        requests_per_minute: Requests that a key may send, unless the key says otherwise.
        max_running_jobs: Jobs that run at a time.
        max_lost_attempts: How often a job may be lost to its surroundings before it fails.
        lease_seconds: How long a controller that gives no sign keeps its lease.
        poll_seconds: How often a controller looks at its jobs.
    """

    model_config = SettingsConfigDict(
        env_prefix="RATCHET_", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    home: Path = Path(".ratchet")
    store: str | None = None
    database_url: SecretStr = Field(default_factory=_default_database)
    tracking_uri: str = Field(default_factory=_default_tracking, repr=False)
    ray_jobs_url: str = "http://127.0.0.1:8265"
    ray_address: str = "auto"
    launcher: Literal["ray", "process"] = "ray"
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    router_url: str = "http://127.0.0.1:8000"
    data_roots: Annotated[tuple[str, ...], NoDecode] = Field(default_factory=_default_roots)
    max_upload_bytes: int = Field(default=512 * 2**20, gt=0)
    max_key_bytes: int = Field(default=50 * 2**30, gt=0)
    requests_per_minute: int = Field(default=600, gt=0)
    max_running_jobs: int = Field(default=2, gt=0)
    max_lost_attempts: int = Field(default=10, ge=0)
    lease_seconds: float = Field(default=10.0, gt=0)
    poll_seconds: float = Field(default=0.5, gt=0)

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().resolve()

    @field_validator("data_roots", mode="before")
    @classmethod
    def _listed(cls, roots: object) -> object:
        """Take roots divided by commas, as a variable holds them."""
        if isinstance(roots, str):
            return tuple(root.strip() for root in roots.split(",") if root.strip())
        return roots
