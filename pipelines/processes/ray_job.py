"""What Ray is told of a program of ours: its workers import what is installed, and nothing else."""

from __future__ import annotations

from ray.job_config import JobConfig


class InstalledCode(JobConfig):
    """A job whose workers do not look for modules in the folders of its program.

    Ray puts the program's current folder, and that of its script, before everything that is
    installed. The current folder is the user's: a `queue.py` or a `service/` there would be what
    Ray and torch import in each worker. All that our workers run is installed, and Ray has no
    setting for this but a `working_dir`, which would be copied and put at the same place.
    """

    @property
    def _py_driver_sys_path(self) -> list[str]:
        """The folders to look in first; Ray adds to a list that is thrown away."""
        return []

    @_py_driver_sys_path.setter
    def _py_driver_sys_path(self, folders: list[str]) -> None:
        """Ray's own constructor sets it."""
