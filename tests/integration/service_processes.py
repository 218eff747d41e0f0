"""A whole service in processes of a test's own, each of which can be killed and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from tests.waiting import wait_for_url

MARK = "RATCHET_TEST_SERVICE"
"""The variable by which every process of a test is found, however it came about."""
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def free_ports(count):
    """Ports of this machine that nothing listens at."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


class ServiceProcesses:
    """Ray's head, the controller and the API over one home and one database.

    Args:
        home: Where state lives.
        database_url: The truth.
        settings: More settings of the service, by their variables.
        num_cpus: CPUs that Ray believes to have.
    """

    def __init__(self, home, database_url, settings, num_cpus=4):
        self.home = home
        self.mark = uuid.uuid4().hex
        names = ["gcs", "jobs", "agent", "agent_grpc", "client", "metrics", "runtime", "api"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.num_cpus = num_cpus
        self.environment = {
            **os.environ,
            **QUIET,
            MARK: self.mark,
            "RATCHET_HOME": str(home),
            "RATCHET_DATABASE_URL": database_url,
            "RATCHET_RAY_JOBS_URL": f"http://127.0.0.1:{self.ports['jobs']}",
            "RATCHET_API_PORT": str(self.ports["api"]),
            **settings,
        }
        self.running = {}
        self.head_seconds = 0.0
        self._seen = {}
        self._temporary = Path("/tmp") / f"rh-{self.mark[:6]}"  # Ray's sockets need a short path

    def start(self, name):
        """Start a part that does not run, and return when it answers."""
        commands = {
            "controller": [sys.executable, "-m", "ratchet.service.control"],
            "api": [sys.executable, "-m", "ratchet.service.api"],
            "head": self._head_command(),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                commands[name],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name == "head":
            began = time.monotonic()
            wait_for_url(f"http://127.0.0.1:{self.ports['jobs']}/api/jobs/")
            self.head_seconds = time.monotonic() - began
        if name == "api":
            wait_for_url(f"{self.url}/healthz")

    @property
    def url(self):
        """Where the API answers."""
        return f"http://127.0.0.1:{self.ports['api']}"

    def kill(self, name):
        """End a part at once, as a crash does; of Ray's head, all of its processes."""
        process = self.running[name]
        if name == "head":
            self.kill_ray()
        process.kill()
        process.wait()
        del self.running[name]

    def revive(self):
        """Start again the parts that ended by themselves, as a supervisor does; say which."""
        ended = [name for name, process in self.running.items() if process.poll() is not None]
        for name in ended:
            self.kill(name)
            self.start(name)
        return ended

    def ray_processes(self):
        """Ray's own processes, and the jobs and workers that it started."""
        apart = {self.running[name].pid for name in ("controller", "api") if name in self.running}
        return [own for own in self.processes() if own.pid not in apart]

    def processes(self):
        """Every process of this service that lives.

        Ray's workers write over their environment, so they are also known by who started them.
        """
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    self._seen[process.pid, process.create_time()] = process
                    for child in process.children(recursive=True):
                        self._seen[child.pid, child.create_time()] = child
        self._seen = {key: own for key, own in self._seen.items() if is_alive(own)}
        return list(self._seen.values())

    def drivers(self):
        """The processes that run jobs."""
        return [own for own in self.processes() if is_driver(own)]

    def workers(self):
        """The processes that train for them."""
        return [own for own in self.processes() if "TrainWorker" in title(own)]

    def stop(self, grace_seconds=20.0):
        """End everything, and return what of the service's own did not end by itself."""
        self.processes()
        for name in ("controller", "api"):
            if name in self.running:
                self.running[name].terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.running[name].wait(grace_seconds)
        if "head" in self.running:
            self.kill_ray()
        until = time.monotonic() + grace_seconds
        while self.processes() and time.monotonic() < until:
            time.sleep(0.2)
        left = [title(own) for own in self.processes()]
        for own in self.processes():
            send(own, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)
        return left

    def kill_ray(self):
        """End Ray's own processes at once; jobs and workers are to notice that by themselves."""
        for own in self.ray_processes():
            if not is_driver(own) and "TrainWorker" not in title(own):
                send(own, signal.SIGKILL)

    def _head_command(self):
        ports = {
            "--port": "gcs",
            "--dashboard-port": "jobs",
            "--dashboard-agent-listen-port": "agent",
            "--dashboard-agent-grpc-port": "agent_grpc",
            "--ray-client-server-port": "client",
            "--metrics-export-port": "metrics",
            "--runtime-env-agent-port": "runtime",
        }
        return [
            str(Path(sys.executable).with_name("ray")),
            *["start", "--head", "--block", "--disable-usage-stats", "--no-monitor"],
            *["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"],
            *["--include-dashboard=true", f"--num-cpus={self.num_cpus}"],
            *["--object-store-memory=200000000", f"--temp-dir={self._temporary}"],
            *[f"{option}={self.ports[name]}" for option, name in ports.items()],
        ]


def title(process):
    """What a process calls itself."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return ""


def is_alive(process):
    """Whether a process runs, and is not only waiting to be counted."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_driver(process):
    """Whether it runs a job, and is no shell around one that does."""
    words = title(process).split()
    return "ratchet.service.driver" in words and "python" in words[0]


def send(process, number):
    """Signal a process that may be gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
