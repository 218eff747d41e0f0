"""Processes of a service, found by their mark, and ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import psutil

from ratchet.service.up.layout import MARK

ROUNDS = 3


def find_stray_processes(mark: str, sessions: Mapping[int, float]) -> list[psutil.Process]:
    """Every process that belongs to a service, wherever it was moved to.

    Found by the mark in its variables; some programs overwrite these to show a title, so by its
    session too; and as what such a process has started.

    Args:
        mark: The service's mark.
        sessions: When the first process of each session began (Unix seconds), by session.
    """
    current = {sid: began for sid, began in sessions.items() if not _was_taken_over(sid, began)}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if _belongs(process, mark, current):
                for one in (process, *process.children(recursive=True)):
                    found[one.pid] = one
        except (psutil.Error, OSError):
            continue  # gone by now, or another user's
    for own in (os.getpid(), *(parent.pid for parent in psutil.Process().parents())):
        found.pop(own, None)
    return list(found.values())


def end_stray_processes(mark: str, sessions: Mapping[int, float], grace_seconds: float) -> int:
    """End what belongs to a service: asked to at first, then made to.

    Returns:
        How many processes there were.
    """
    num_ended = 0
    for _ in range(ROUNDS):  # what is ending may have started something
        strays = [own for own in find_stray_processes(mark, sessions) if _is_alive(own)]
        if not strays:
            break
        num_ended += len(strays)
        _signal(strays, "terminate")
        _, alive = psutil.wait_procs(strays, timeout=grace_seconds)
        _signal(alive, "kill")
        psutil.wait_procs(alive, timeout=5)
    return num_ended


def memory_bytes(pid: int) -> int:
    """Memory that only a process and what it has started use; zero where it has ended."""
    total = 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            total += one.memory_full_info().uss
        except psutil.Error:
            continue
    return total


def began(pid: int) -> float:
    """When a process was started, in Unix seconds; tells it from a later one of the same number."""
    return psutil.Process(pid).create_time()


def is_running(pid: int, since: float) -> bool:
    """Whether the process that began then is still there."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - since) < 1 and _is_alive(process)
    except psutil.Error:
        return False


def _belongs(process: psutil.Process, mark: str, sessions: Mapping[int, float]) -> bool:
    session = os.getsid(process.pid)
    if session in sessions and process.create_time() >= sessions[session] - 1:
        return True
    return process.environ().get(MARK) == mark


def _was_taken_over(session: int, since: float) -> bool:
    """Whether another process leads a session of the same number now."""
    try:
        return abs(psutil.Process(session).create_time() - since) >= 1
    except psutil.NoSuchProcess:
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        try:
            getattr(process, how)()
        except psutil.NoSuchProcess:
            continue
