"""The router as Ray Serve builds it from a config file, as KubeRay's RayService does.

`import_path: ratchet.service.serving.ray_service:build`, and as `args` the fields of
`RouterArguments`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from ray.serve import Application

from ratchet.service.serving.graph import build_app


class RouterArguments(BaseModel):
    """What a config file may say of the router.

    Attributes:
        home: Where the versions lie on every node: shared, or a copy of one store.
        lineages: What to serve; none serves every lineage from its first champion on.
        num_replicas: Replicas, each with all lineages in memory.
        num_threads: Threads of each replica.
    """

    model_config = ConfigDict(extra="forbid")

    home: Path
    lineages: list[str] | None = None
    num_replicas: int = Field(default=1, gt=0)
    num_threads: int = Field(default=1, gt=0)


def build(args: RouterArguments) -> Application:
    """The graph of deployments; Serve reads the type of `args` from this signature."""
    return build_app(args.home, args.lineages, args.num_replicas, args.num_threads)
