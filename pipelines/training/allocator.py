"""Memory that a training process has freed, and takes again at the next step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**31 - 1

WORKER_ALLOCATOR: Mapping[str, str] = MappingProxyType({"MALLOC_ARENA_MAX": "1"})
"""For processes that train in a thread: only the first arena keeps what it may."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory instead of handing it back to the system.

    A step frees every gradient and activation and the next one asks for them again. By default
    glibc gives large blocks back each time, and the system clears their pages anew: 17,500 page
    faults and a fifth of the processor time of a step were measured for MiniLM at 32 x 12 tokens.
    The price: the process stays as large as its largest step.

    Returns:
        Whether the process's C library knows the setting; others are left as they are.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    found = [mallopt(setting, _KEPT_BYTES) for setting in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)]
    return all(found)


def give_freed_memory_back() -> bool:
    """Hand everything that this process has freed back to the system, all at once.

    For a process that trains again and again: what each training frees lies between what stays, the
    next one's blocks fit less and less well, and the process grows.

    Returns:
        Whether there was something to hand back; never where the process's C library cannot.
    """
    trim = _c_function("malloc_trim")
    return trim is not None and bool(trim(0))


def _c_function(name: str) -> Any:
    """A function of the process's C library, or None where it has none; glibc only."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
