"""Requests a second of a served lineage, and how long they take, for some numbers of clients.

Run: python -m tests.benchmarks.serving HOME LINEAGE [--clients 1 8 32] [--seconds 5]

Each client sends one text a request and waits for the answer. `auto` infers the task (two passes
where tasks have adapters), the named mode asks each task in turn (one pass). Texts are the
lineage's own test rows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from pathlib import Path

import httpx
import numpy as np

from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.version import read_held_out
from ratchet.service.serving.graph import serving


async def client(
    http: httpx.AsyncClient, bodies: itertools.cycle, until: float, spent: list[float]
) -> None:
    while (started := time.perf_counter()) < until:
        (await http.post("/v1/classify", json=next(bodies))).raise_for_status()
        spent.append(time.perf_counter() - started)


async def measure(url: str, bodies: list[dict], num_clients: int, seconds: float) -> list[float]:
    spent: list[float] = []
    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        until = time.perf_counter() + seconds
        turns = itertools.cycle(bodies)
        await asyncio.gather(*(client(http, turns, until, spent) for _ in range(num_clients)))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("lineage")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    folder = Registry(arguments.home).resolve(arguments.lineage)
    rows = [
        (task["name"], text)
        for task in read_manifest(folder).tasks
        for text in read_held_out(folder, task["id"]).test[:20]
    ]
    modes = {
        "auto": [{"model": "auto", "input": text} for _, text in rows],
        "named": [{"model": name, "input": text} for name, text in rows],
    }
    started = time.perf_counter()
    with serving(arguments.home, [arguments.lineage], port=arguments.port) as url:
        print(f"ready after {time.perf_counter() - started:.1f} s")
        for mode, bodies in modes.items():
            asyncio.run(measure(url, bodies, 4, 2.0))
            for num_clients in arguments.clients:
                spent = asyncio.run(measure(url, bodies, num_clients, arguments.seconds))
                half, most = np.percentile(spent, [50, 95]) * 1000
                rate = len(spent) / arguments.seconds
                print(
                    f"{mode:6s} {num_clients:3d} clients: {rate:7.1f} requests/s, "
                    f"median {half:.0f} ms, 95 % {most:.0f} ms"
                )


if __name__ == "__main__":
    main()
