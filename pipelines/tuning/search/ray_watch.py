"""Whether the Ray of a study still answers; without it a search would hang or be killed."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ratchet.pipelines.errors import RatchetError

OWN_PATIENCE_SECONDS = 2.0
"""How long the Ray of this process may be silent: nothing brings it back."""

CLUSTER_PATIENCE_SECONDS = 40.0
"""How long a cluster's head may be away, which may be replaced; after 60 s Ray kills the driver."""

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 2.0

Address = tuple[str, int]


@dataclass
class RayWatch:
    """Looks whether Ray's two servers can be reached from the driver.

    Attributes:
        servers: Host and port by name.
        patience_seconds: How long one of them may be away.
        heard: When all of them were reached last, on the monotonic clock.
        is_over: Whether nobody waits for the search any more.
    """

    servers: Mapping[str, Address]
    patience_seconds: float
    heard: float = field(default_factory=time.monotonic)
    is_over: bool = False

    def check(self) -> bool:
        """Look once, and say whether all answer.

        Raises:
            RatchetError: Ray has been away for too long; the study can be gone on with.
        """
        lost = [name for name, place in self.servers.items() if not _answers(place)]
        if not lost:
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > self.patience_seconds:
            raise RatchetError(
                f"Ray is lost: its {lost[0]} no longer answers. No trial that ended is lost; "
                "run the same command again, and the study goes on"
            )
        return not lost

    def make_sure(self) -> None:
        """Wait until it is certain that Ray is there.

        Raises:
            RatchetError: It is lost, or nobody waits for the search any more.
        """
        while not self.is_over and not self.check():
            time.sleep(LOOK_SECONDS / 4)
        if self.is_over:
            raise RatchetError("the search was left, and its trials with it")

    def end(self) -> None:
        """Say that nobody waits for the search any more: what ends now ends with Ray."""
        self.is_over = True


def watch_ray(own: bool) -> RayWatch:
    """A watch over the Ray that this process is attached to.

    Args:
        own: Whether this process started it, so that it ends with what is lost.
    """
    import ray

    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    node = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    servers = {
        "head (GCS)": (host, int(port)),
        "node manager (raylet)": (node["NodeManagerAddress"], int(node["NodeManagerPort"])),
    }
    return RayWatch(servers, OWN_PATIENCE_SECONDS if own else CLUSTER_PATIENCE_SECONDS)


def _answers(place: Address) -> bool:
    try:
        socket.create_connection(place, CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
