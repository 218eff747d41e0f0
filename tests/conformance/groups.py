"""Worker groups of real processes over gloo, without a cluster."""

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ratchet.pipelines.training.workers import GroupWorkers


def in_group(world_size, folder, function, *arguments):
    """What `function(workers, *arguments)` returns on every rank, in order.

    The function lives in a module, and its result can be saved by torch.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(
        _member,
        args=(world_size, port, str(folder), function, arguments),
        nprocs=world_size,
        start_method="fork",
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _member(rank, world_size, port, folder, function, arguments):
    torch.set_num_threads(1)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(port)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        found = function(GroupWorkers(), *arguments)
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
