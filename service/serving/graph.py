# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
"""Binds the Serve graph and runs it: router (HTTP) -> replicas (batches, models)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import cast

import ray
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from ratchet.pipelines.answering.answer import Answer, Query, answer
from ratchet.pipelines.answering.frozen_base import best_device
from ratchet.pipelines.errors import NotFoundError, ObjectStoreError, VersionError
from ratchet.pipelines.models.precision import own_cpus, set_threads
from ratchet.pipelines.processes.ray_job import InstalledCode
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.registry.manifest import read_manifest, verify_files
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.errors import ServiceError, UnavailableError
from ratchet.service.schemas.classify import ClassifyRequest, Health, ModelList
from ratchet.service.serving.ingress import Ingress
from ratchet.service.serving.lineage import champions_of
from ratchet.service.serving.replica import Replica

APP_NAME = "ratchet"
MAX_BATCH_ROWS = 32
BATCH_WAIT_SECONDS = 0.004
MAX_ONGOING_REQUESTS = 128
MAX_QUEUED_REQUESTS = 512
REQUEST_TIMEOUT_SECONDS = 60.0
ROUTER_CPUS = 0.1
REPLICA_CPUS = 0.5


class ServeReplica:
    """A replica under Serve: texts of all requests that wait share batches.

    Args:
        home: Where the versions lie.
        lineages: What to serve; None serves every lineage from its first champion on.
        num_threads: Threads of a forward pass.
    """

    def __init__(self, home: str, lineages: Sequence[str] | None, num_threads: int) -> None:
        quiet_libraries()
        set_threads(num_threads)
        self._replica = Replica(Path(home), lineages, best_device())

    async def classify(self, request: ClassifyRequest) -> bytes | ServiceError:
        """A `ClassifyResponse` as JSON; what is the client's business is returned, not raised."""
        try:
            response = await self._replica.classify(request, self._ask)
        except ServiceError as error:
            return error
        return response.model_dump_json().encode()

    @serve.batch(max_batch_size=MAX_BATCH_ROWS, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def _ask(self, queries: list[Query]) -> list[Answer]:
        return await asyncio.to_thread(answer, queries)

    async def models(self) -> ModelList:
        """What a request can name."""
        return self._replica.models()

    async def health(self) -> Health:
        """Which versions answer, and what is wrong."""
        return self._replica.health()

    def check_health(self) -> None:
        """Tell Serve whether this replica must be replaced.

        Raises:
            RuntimeError: Promotions are not noticed any more.
        """
        if not self._replica.watcher.is_watching:
            raise RuntimeError("the thread that watches the registry has ended")


def build_app(
    home: Path, lineages: Sequence[str] | None, num_replicas: int, num_threads: int
) -> Application:
    """The graph of deployments, ready to run."""
    busy = BackpressureConfig(status_code=429, retry_after_s=1)
    replicas = _deployment(ServeReplica).options(
        name="replica",
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": REPLICA_CPUS},
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=5,
    )
    ingress = _deployment(serve.ingress(None)(Ingress)).options(
        name="router",
        ray_actor_options={"num_cpus": ROUTER_CPUS},
        max_ongoing_requests=MAX_ONGOING_REQUESTS * num_replicas + MAX_QUEUED_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        backpressure_config=busy,
        graceful_shutdown_timeout_s=5,
    )
    return ingress.bind(replicas.bind(str(home.resolve()), lineages, num_threads))


def _deployment(target: type) -> Deployment:
    return cast("Deployment", serve.deployment(target))


@contextmanager
def serving(
    home: Path,
    lineages: Sequence[str] | None,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_replicas: int = 1,
) -> Generator[str, None, None]:
    """Serve lineages while the context lasts; the value is the URL.

    Ray is started where it is not running: the cluster at `RAY_ADDRESS`, or one of this process.

    Args:
        home: Where the versions lie; every node of a cluster must see it.
        lineages: What to serve; None serves every lineage from its first champion on.
        host: Address to listen at.
        port: Port to listen at.
        num_replicas: Replicas, each with all lineages in memory.

    Raises:
        NotFoundError: A lineage that does not exist or has no champion.
        VersionError: No champion of a lineage can be loaded.
        UnavailableError: The port is taken.
    """
    if lineages is not None:
        _check_champions(Registry(home), lineages)
    _check_port(host, port)
    with _ray(num_replicas):
        http = HTTPOptions(
            host=host,
            port=port,
            request_timeout_s=REQUEST_TIMEOUT_SECONDS,
        )
        logs = LoggingConfig(log_level="WARNING", enable_access_log=False)
        serve.start(ProxyLocation.HeadOnly, http, logging_config=logs)
        try:
            threads = int(os.environ.get("OMP_NUM_THREADS", max(1, own_cpus() // num_replicas)))
            app = build_app(home, lineages, num_replicas, threads)
            _run(app, logs)
            yield f"http://{host}:{port}"
        finally:
            serve.shutdown()


def serve_lineages(
    home: Path,
    lineages: Sequence[str] | None,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_replicas: int = 1,
) -> None:
    """Serve lineages until SIGINT or SIGTERM; see `serving` for the arguments and errors."""
    with serving(home, lineages, host, port, num_replicas) as url, _signals() as stopped:
        what = "all lineages" if lineages is None else ", ".join(lineages)
        print(f"Serving {what} at {url}", file=sys.stderr, flush=True)  # noqa: T201
        stopped.wait()
        print("Stopping", file=sys.stderr, flush=True)  # noqa: T201


def _run(app: Application, logs: LoggingConfig) -> None:
    try:
        serve.run(app, name=APP_NAME, route_prefix="/", logging_config=logs)
    except RuntimeError as error:
        raise VersionError(f"the service could not start: {error}") from error


def _check_champions(registry: Registry, lineages: Sequence[str]) -> None:
    if not lineages:
        raise NotFoundError(
            f"name a lineage to serve; there are: {', '.join(registry.lineages()) or 'none'}"
        )
    for lineage in lineages:
        registry.resolve(lineage)
        _check_any_sound(registry, lineage)


def _check_any_sound(registry: Registry, lineage: str) -> None:
    """Find out here, in one line, what a replica would say in a long trace."""
    reasons: list[str] = []
    for number in champions_of(registry.aliases(lineage)):
        folder = registry.fetched(lineage, number)
        try:
            verify_files(folder, read_manifest(folder))
        except (NotFoundError, ObjectStoreError, VersionError) as error:
            reasons.append(str(error))
        else:
            return
    raise VersionError(f"{lineage}: no champion can be served. {'; '.join(reasons)}")


def _check_port(host: str, port: int) -> None:
    """Find out before anything is started: Serve says it late and in many lines."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
            raise UnavailableError(f"--port: {host}:{port} {reason}; name another") from error


@contextmanager
def _ray(num_replicas: int) -> Generator[None, None, None]:
    """The Ray that is attached already, that of `RAY_ADDRESS`, or one of this process."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_AUTH_MODE", "token" if address else "disabled")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    num_cpus = max(2, own_cpus(), round(num_replicas * REPLICA_CPUS + 1))
    ray.init(
        address=address or "local",
        logging_level=logging.WARNING,
        job_config=InstalledCode(),
        num_cpus=None if address else num_cpus,
        include_dashboard=None if address else False,
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals() -> Generator[threading.Event, None, None]:
    """An event that SIGINT and SIGTERM set; their handlers are put back afterwards."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
