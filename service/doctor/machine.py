# pyright: reportUnknownMemberType=false
"""Looks at a machine and says what would keep Ratchet from running well on it, and what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ratchet import DISTRIBUTION
from ratchet.pipelines.errors import ModelError, TrackingError
from ratchet.pipelines.models.source import ENTRY_POINT_GROUP, MODEL_PACKAGES, model_location
from ratchet.pipelines.tracking.mlflow_client import mlflow_client
from ratchet.service.doctor.finding import Finding
from ratchet.service.doctor.service import examine_service, is_up

GIB = 1024**3
LITTLE_MEMORY_GIB = 4
LITTLE_DISK_GIB = 5
PORTS = {8000: "ratchet serve", 8265: "Ray's dashboard"}


def examine(home: Path, tracking_uri: str) -> Iterator[Finding]:
    """Look at everything, one finding after another.

    Args:
        home: Where state would live.
        tracking_uri: The MLflow store that would be used.
    """
    for look in (_python, _libraries, _processor, _threads, _memory):
        yield from look()
    yield from _disk(home)
    yield _home(home)
    yield _tracking(tracking_uri)
    yield from _models()
    yield _ray()
    yield from examine_service(home)
    if not is_up(home):  # its parts hold the ports
        for port, user in PORTS.items():
            yield _port(port, user)


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()}")


def _libraries() -> Iterator[Finding]:
    """Every dependency whose installed version is not one that Ratchet was tested with."""
    needed = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    needed = [need for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    wrong = [finding for need in needed if (finding := _library(need)) is not None]
    yield from wrong
    if not wrong:
        shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "transformers"))
        yield Finding("libraries", "ok", f"all {len(needed)} within their bounds ({shown})")


def _library(need: Requirement) -> Finding | None:
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return Finding(need.name, "fail", "not installed", f"pip install '{need}'")
    if need.specifier.contains(found, prereleases=True):
        return None
    return Finding(need.name, "warn", f"{found} is installed", f"pip install '{need}'")


def _processor() -> Iterator[Finding]:
    import torch

    from ratchet.pipelines.models.precision import resolve_precision

    if torch.cuda.is_available():
        yield Finding("gpu", "ok", torch.cuda.get_device_name())
    precision = resolve_precision("auto", torch.device("cpu"))
    if precision == "bf16":
        yield Finding("processor", "ok", "multiplies bf16 natively; precision auto uses it")
    else:
        yield Finding("processor", "ok", "no native bf16; precision auto trains in fp32")


def _threads() -> Iterator[Finding]:
    from ratchet.pipelines.models.precision import own_cpus

    cpus, load = own_cpus(), os.getloadavg()[0]
    found = f"{cpus} CPUs for this process, load {load:.1f}"
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        advice = "Set OMP_WAIT_POLICY=PASSIVE: spinning threads are many times slower under load"
        yield Finding("threads", "warn", found, advice)
    elif load > 1.5 * cpus:
        advice = "Other programs are busy: training will take longer than planned"
        yield Finding("threads", "warn", found, advice)
    else:
        yield Finding("threads", "ok", found)


def _memory() -> Iterator[Finding]:
    free = _available_bytes() / GIB
    if free < LITTLE_MEMORY_GIB:
        advice = f"Ray and a small encoder want {LITTLE_MEMORY_GIB} GiB; end other programs"
        yield Finding("memory", "warn", f"{free:.1f} GiB available", advice)
    else:
        yield Finding("memory", "ok", f"{free:.1f} GiB available")


def _available_bytes() -> float:
    """Memory that a new program could get, by the kernel and by a container's limit."""
    available = float("inf")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdecimal():
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


def _disk(home: Path) -> Iterator[Finding]:
    place = _existing(home)
    free = shutil.disk_usage(place).free / GIB
    if free < LITTLE_DISK_GIB:
        yield Finding(
            "disk", "warn", f"{free:.1f} GiB free at {place}", "Free some, or move --home"
        )
    else:
        yield Finding("disk", "ok", f"{free:.0f} GiB free at {place}")


def _home(home: Path) -> Finding:
    place = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        advice = "Give another folder with --home or RATCHET_HOME"
        return Finding("home", "fail", f"{home} cannot be written: {error.strerror}", advice)
    return Finding("home", "ok", f"{home} {'exists' if home.exists() else 'will be made'}")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _tracking(uri: str) -> Finding:
    database = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and not Path(database).exists():
        return Finding("mlflow", "ok", f"{uri} will be made by the first update")
    try:
        with mlflow_client(uri) as client:
            client.search_experiments(max_results=1)
    except TrackingError as error:
        advice = (
            "Updates run all the same and keep what they track; send it later with "
            "`ratchet track --send RUN`. Start the server, or set --tracking-uri"
        )
        return Finding("mlflow", "warn", str(error).partition("\n")[0], advice)
    return Finding("mlflow", "ok", f"{uri} answers")


def _models() -> Iterator[Finding]:
    declared = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
    for name in sorted({*MODEL_PACKAGES, *declared}):
        try:
            yield Finding(f"model {name}", "ok", model_location(name))
        except ModelError as error:
            advice = "Other models work: a folder, or a Hub id"
            yield Finding(f"model {name}", "warn", str(error), advice)


def _ray() -> Finding:
    if importlib.util.find_spec("ray") is None:
        return Finding("ray", "fail", "not installed", "pip install 'ray[data,serve,train,tune]'")
    try:
        import ray
    except (ImportError, OSError) as error:
        return Finding("ray", "fail", f"does not import: {error}", "Install it again")
    return Finding("ray", "ok", f"{ray.__version__} imports")


def _port(port: int, user: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            advice = f"End what listens there, or give {user} another port"
            return Finding(f"port {port}", "warn", f"in use, and {user} wants it", advice)
    return Finding(f"port {port}", "ok", f"free for {user}")
