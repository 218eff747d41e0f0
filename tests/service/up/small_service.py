"""A supervisor over parts that do nothing: `python -m tests.service.up.small_service HOME [PART…]`.

A part is `name`, `name:need`, or `name!` for one that dies at once.
"""

import sys
from pathlib import Path

from ratchet.pipelines.errors import RatchetError
from ratchet.service.up.layout import MARK, Layout, free_port
from ratchet.service.up.parts import Part
from ratchet.service.up.supervisor import supervising

# Starts a process that leaves its session, as programs that want to survive do.
WORK = """
import os, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").close()
print("working", flush=True)
time.sleep(600)
"""
DIE = "import sys; print('no such database', file=sys.stderr); sys.exit(3)"


def part_of(text, home, mark):
    name, _, need = text.removesuffix("!").partition(":")
    sign = home / f"{name}.works"
    script = DIE if text.endswith("!") else WORK
    command = [sys.executable, "-c", script, str(sign)]

    def is_ready():
        return sign.exists()

    return Part(name, command, {MARK: mark}, is_ready, (need,) if need else ())


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(home, *parts):
    layout = Layout(home, free_port(), None, None, None)
    own = [part_of(text, home, layout.mark) for text in parts]
    try:
        with supervising(layout, say, own) as supervisor:
            supervisor.run(lambda: say("ready"))
    except RatchetError as error:
        say(f"failed: {error}")
        sys.exit(1)
    say("stopped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
