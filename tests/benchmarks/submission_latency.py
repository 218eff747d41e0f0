"""Where the seconds go from an accepted submission to the first training step.

    ratchet up --home HOME &                    # on a quiet machine
    python -m tests.benchmarks.submission_latency HOME SPEC --repeats 5

Submits the spec again and again, each time to a lineage of its own, and waits for its end. The
places on the way are read from the job's folder: when the database took the job, when the
controller claimed it, when its driver began, began to look at the data (which loads what learns),
had planned, and made its first step. Prints the seconds between them, then medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import yaml

from ratchet.service.client import Client, JobView
from ratchet.service.driver.job_folder import JobFolder
from ratchet.service.driver.journal import Line

WAYS = (
    "accepted to claimed",
    "claimed to driver",
    "driver to checking",
    "checking to planned",
    "planned to first step",
)


def seconds_of(
    folder: JobFolder, job: JobView, accepted: float, claimed: float
) -> dict[str, float]:
    """Seconds between the places that a job went through."""
    lines = [line for text in folder.events.read_bytes().splitlines() if (line := Line.parse(text))]
    driver = folder.read_driver(1)
    assert job.attempt == 1, "the times of several attempts say nothing"
    assert driver is not None, "it wrote that at once"

    def first(found: list[Line]) -> float:
        return found[0].time

    marks = [
        accepted,
        claimed,
        driver.create_time,
        first([line for line in lines if line.phase == "checking_data"]),
        first([line for line in lines if line.message.startswith("data checked")]),
        first([line for line in lines if line.type == "metrics"]),
    ]
    ways = zip(WAYS, marks, marks[1:], strict=False)
    return {name: round(later - earlier, 2) for name, earlier, later in ways} | {
        "whole": round(marks[-1] - marks[0], 2)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    raw = yaml.safe_load(given.spec.read_text(encoding="utf-8"))
    found = []
    with Client(home=given.home) as client:
        for place in range(given.repeats):
            own = raw | {"lineage": f"{raw['lineage']}-{int(time.time())}-{place}"}
            path = given.spec.with_name(f"{given.spec.stem}.latency.yaml")
            path.write_text(yaml.safe_dump(own, sort_keys=False))
            found.append(submitted(client, path, given.home))
            print(json.dumps(found[-1]), flush=True)
            path.unlink()
    medians = {name: statistics.median(own[name] for own in found) for name in found[0]}
    print(json.dumps({"medians": medians}))


def submitted(client: Client, spec: Path, home: Path) -> dict[str, float]:
    """One submission, followed to its end."""
    job = client.submit(spec)
    accepted = time.time()
    while client.get(job.id).status == "queued":
        time.sleep(0.02)
    claimed = time.time()
    ended = client.wait(job.id, timeout=600)
    return seconds_of(JobFolder.of(home.resolve(), job.id), ended, accepted, claimed)


if __name__ == "__main__":
    main()
