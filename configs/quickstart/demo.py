"""The main job, end to end, in about three minutes: teach twice, prove, serve, ask.

    python configs/quickstart/demo.py --home .ratchet/quickstart

Each step is a `ratchet` command that you can repeat by hand; the command is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).resolve().parent
RATCHET = str(Path(sys.executable).parent / "ratchet")
READY_SECONDS = 120
GATE_REFUSED = 4
QUESTIONS = (
    "My laptop says the password has expired and now I am locked out",
    "How many vacation days do I have left this year?",
    "When will the supplier get paid, the bill is from last month",
    "It is freezing in meeting room 4, can someone turn up the heating?",
    "I need to be in Lisbon on Monday, can you get me on a plane?",
    "Which planet has the most moons?",
)


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def teach(spec: str, home: Path) -> dict[str, Any]:
    """Run an update by the command line; its progress goes to the screen, its result comes back."""
    command = [RATCHET, "run", str(FOLDER / spec), "--home", str(home), "--json"]
    say(f"$ ratchet run {(FOLDER / spec).relative_to(Path.cwd())} --home {home} --json")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, GATE_REFUSED):
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def percent(value: float | None) -> str:
    """An accuracy in a column of five."""
    return "    ·" if value is None else f"{value:5.0%}"


def show_matrices(plain: dict[str, Any], protected: dict[str, Any]) -> None:
    """Both accuracy matrices side by side, a row after each department was learned."""
    names = plain["tasks"]
    width = max(map(len, names))
    short = "".join(f"{name[:4]:>5}" for name in names)
    say("\nAccuracy on each department (columns) after learning each (rows), no department given")
    say(f"{'':{width}} {'plain fine-tuning':>{len(short)}}   {'protected':>{len(short)}}")
    say(f"{'':{width}} {short}   {short}")
    for name, left, right in zip(
        names, plain["accuracy_matrix"], protected["accuracy_matrix"], strict=True
    ):
        cells = ["".join(map(percent, row)) for row in (left, right)]
        say(f"{name:{width}} {cells[0]}   {cells[1]}")
    for title, result in (("plain fine-tuning", plain), ("protected", protected)):
        numbers = result["metrics"]
        verdict = "promoted" if result["promoted"] else "refused by the gate"
        say(
            f"  {title}: average accuracy {numbers['average_accuracy']:.1%}, "
            f"forgetting {numbers['forgetting']:.1%}, {verdict}"
        )
        say(
            f"    as served, with the router's statistics beside the heads: "
            f"{numbers['average_accuracy_as_served']:.1%} where no department is named, "
            f"{numbers['average_accuracy_task_given']:.1%} where it is"
        )
        say(f"    {result['gate']['headline']}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the endpoint answers, or stop with the server's own exit code."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(server.returncode or 1)
        try:
            if httpx.get(f"{url}/healthz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"the endpoint was not ready within {READY_SECONDS} s")


def ask(url: str) -> None:
    """Send one question of each department and one that belongs to none."""
    body = {"model": "auto", "input": list(QUESTIONS)}
    say(f"$ curl -s {url}/v1/classify -H 'content-type: application/json' -d '{{...}}'")
    answer = httpx.post(f"{url}/v1/classify", json=body, timeout=60)
    answer.raise_for_status()
    for item in answer.json()["data"]:
        route = item["route"]
        text = QUESTIONS[item["index"]]
        if route["abstained"]:
            verdict = "belongs to no department"
        else:
            verdict = f"{route['task']} / {item['label']} ({max(item['probs']):.0%})"
        say(f"  {text}\n    -> {verdict}")


def serve_and_ask(home: Path, lineage: str) -> None:
    """Start the endpoint, ask, stop it."""
    port = free_port()
    command = [RATCHET, "serve", lineage, "--home", str(home), "--port", str(port)]
    say(f"\n$ ratchet serve {lineage} --home {home} --port {port}")
    server = subprocess.Popen(command)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", server)
        ask(f"http://127.0.0.1:{port}")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()


def main() -> None:
    """Teach, compare, serve, ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".ratchet/quickstart"))
    home = parser.parse_args().home
    shutil.rmtree(home, ignore_errors=True)
    started = time.monotonic()
    say("1. Teach five departments one after another, with nothing against forgetting.")
    plain = teach("plain.yaml", home)
    say("\n2. The same again, with an adapter and a head for each department.")
    protected = teach("protected.yaml", home)
    show_matrices(plain, protected)
    if not protected["promoted"]:
        sys.exit("the protected version was refused; see the reasons above")
    say("\n3. Serve the champion and ask it, without saying which department is meant.")
    serve_and_ask(home, protected["lineage"])
    say(f"\nDone in {time.monotonic() - started:.0f} s.")
    say(f"Report:    {protected['report']}")
    say(f"Compare:   {plain['report']}")
    say("Try next:  ratchet run configs/quickstart/protected.yaml --lineage mine \\")
    say("             --set training.num_epochs=8        another setting, another lineage")
    say("           ratchet methods                      what else there is against forgetting")
    say(f"           ratchet serve helpdesk --home {home}   and send it your own words")


if __name__ == "__main__":
    main()
