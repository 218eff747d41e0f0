"""Covers, beside `supervisor`: `guard`, `process`, `record`, `stray_processes`."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ratchet.service.up.layout import Layout
from ratchet.service.up.process import MAX_EARLY_DEATHS, let_others_go_first
from ratchet.service.up.record import read_record
from ratchet.service.up.stray_processes import end_stray_processes, find_stray_processes
from tests.waiting import wait_for

WITHIN_SECONDS = 180.0


class Small:
    """A supervisor in a process of its own."""

    def __init__(self, home, *parts):
        self.layout = Layout(home)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.up.small_service", str(home), *parts],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines = []

    def until(self, word):
        for line in iter(self.process.stdout.readline, ""):
            self.lines.append(line.strip())
            if word in line:
                return line
        raise AssertionError(f"no {word!r} in {self.lines}")

    def ended(self):
        rest = self.process.communicate(timeout=WITHIN_SECONDS)[0]
        self.lines += rest.splitlines()
        return self.process.returncode

    def processes(self):
        return find_stray_processes(self.layout.mark, {})

    def pid_of(self, name):
        [found] = [p.pid for p in self.processes() if f"{name}.works" in " ".join(p.cmdline())]
        return found


@pytest.fixture
def home(tmp_path):
    home = tmp_path.resolve()
    yield home
    end_stray_processes(Layout(home).mark, {}, 1)


@pytest.fixture
def start(home):
    started = []

    def begin(*parts):
        started.append(Small(home, *parts))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


def guards_of(small):
    """The guard, or none while one that was killed is replaced."""
    own = psutil.Process(small.process.pid).children()
    return [process for process in own if "ratchet.service.up.guard" in process.cmdline()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_nothing(start, number):
    small = start("first", "second:first")
    small.until("ready")
    assert small.lines.index("first works") < small.lines.index("second works")
    assert len(small.processes()) == 4
    [guard] = guards_of(small)
    small.process.send_signal(number)
    assert small.ended() == 0
    assert small.lines[-1] == "stopped"
    assert small.processes() == []
    assert not small.layout.record.exists()
    assert not guard.is_running()


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing_either(start):
    small = start("first", "second:first")
    small.until("ready")
    os.kill(small.process.pid, signal.SIGKILL)
    wait_for(lambda: small.processes() == [])


@pytest.mark.slow
def test_the_next_start_ends_what_was_left_when_the_guard_was_killed_too(start):
    first = start("first")
    first.until("ready")
    [guard] = guards_of(first)
    left = {process.pid for process in first.processes()}
    guard.kill()
    os.kill(first.process.pid, signal.SIGKILL)
    time.sleep(1)
    assert {process.pid for process in first.processes()} == left
    second = start("first")
    assert "ended 2 processes" in second.until("ended")
    second.until("ready")
    assert left.isdisjoint(process.pid for process in second.processes())


@pytest.mark.slow
def test_a_killed_guard_is_replaced(start):
    small = start("first")
    small.until("ready")
    [guard] = guards_of(small)
    guard.kill()
    wait_for(lambda: not guard.is_running() and guards_of(small) not in ([], [guard]))


@pytest.mark.slow
def test_a_second_service_of_the_home_is_refused(start):
    small = start("first")
    small.until("ready")
    second = start("first")
    assert second.ended() == 1
    assert "runs already" in second.lines[-1]
    assert str(small.process.pid) in second.lines[-1]
    assert len(small.processes()) == 2


@pytest.mark.slow
def test_what_dies_is_started_again_and_so_is_what_needs_it(start):
    small = start("first", "second:first")
    small.until("ready")
    before = {name: small.pid_of(name) for name in ("first", "second")}
    os.kill(before["first"], signal.SIGKILL)
    assert "first was ended by SIGKILL; it is started again in 1 s" in small.until("SIGKILL")
    small.until("second needs first")
    small.until("second works")
    after = {name: small.pid_of(name) for name in ("first", "second")}
    assert after["first"] != before["first"]
    assert after["second"] != before["second"]
    sessions = read_record(small.layout.record).sessions
    assert set(sessions) >= {*before.values(), *after.values()}


@pytest.mark.slow
def test_what_never_works_stops_it_all_and_its_log_is_shown(start):
    small = start("first", "broken!")
    assert small.ended() == 1
    deaths = [line for line in small.lines if line.startswith("broken ended with code 3")]
    assert len(deaths) == MAX_EARLY_DEATHS
    told = "\n".join(small.lines)
    assert f"broken: died {MAX_EARLY_DEATHS + 1} times" in told
    assert "no such database" in told
    assert small.processes() == []


@pytest.mark.skipif(not os.path.exists("/proc/self/autogroup"), reason="sessions share alike here")
def test_a_part_that_trains_lets_the_others_go_first():
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        let_others_go_first(process.pid, 10)
        with open(f"/proc/{process.pid}/autogroup", encoding="utf-8") as file:
            assert file.read().strip().endswith("nice 10")
        process.communicate(b"\n")
    let_others_go_first(process.pid, 10)  # it has ended, which is as well
