"""What a study chose goes through the gate, once, however often that is asked for.

What the gate refused stays refused as long as the champion and the gate are the same. A promotion
makes another version the champion. A study that began before it would then ask another question
(from that version on), of tasks that are taught already; a note in its folder says that it is the
same study still.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.study_name import study_name_of
from ratchet.pipelines.tuning.trial import Settings
from ratchet.pipelines.update.ending import open_attempt
from ratchet.pipelines.update.events import EventHandler
from ratchet.pipelines.update.kept_result import CLAIM_FILE, DONE_FILE, read_result
from ratchet.pipelines.update.plan import digest_from
from ratchet.pipelines.update.result import UpdateResult
from ratchet.pipelines.update.run import run_update

NOTE_FILE = "promotion.json"


@dataclass(frozen=True)
class Promoted:
    """A study whose choice has become the champion.

    Attributes:
        folder: Its folder.
        start: The version that it started from, or None for the base model.
        run: The folder of the update that taught its choice.
    """

    folder: Path
    start: int | None
    run: Path


def promoted_study(studies: Path, spec: UpdateSpec, home: Home) -> Promoted | None:
    """The study of a spec that made the champion, if there is one.

    Args:
        studies: Where the studies of the lineage lie.
        spec: With its `tune` section.
        home: Where state lives.
    """
    for note in sorted(studies.glob(f"*/{NOTE_FILE}")):
        found = _promoted(note, spec.lineage, home)
        if found is not None and _read(note)["question"] == study_name_of(spec, found.start):
            return found
    return None


def promote(
    source: RawSpec,
    settings: Settings,
    folder: Path,
    home: Home,
    on_event: EventHandler,
    address: str | None = None,
) -> UpdateResult:
    """Run the settings that a study chose through the gate; judged before, say the same result.

    Args:
        source: The spec of the study.
        settings: Those of the trial that it chose.
        folder: The study's folder.
        home: Where state lives.
        on_event: Told of what happens in the update.
        address: A Ray cluster, or None for one of this process.

    Returns:
        The result.

    Raises:
        RatchetError: What is wrong with the update.
    """
    best, note = source.without_tune(settings), folder / NOTE_FILE
    done = _promoted(note, best.lineage, home) if note.is_file() else None
    if done is None:
        start = home.registry.champion(best.lineage)
        runs, digest = home.runs(best.lineage), digest_from(best, start)
        asked = {
            "question": study_name_of(source.spec, start),
            "start": start,
            "run": digest,
            "gate": best.gate.model_dump(mode="json"),
        }
        refused = _refused(note, asked, runs) if note.is_file() else None
        if refused is not None:
            return refused
        own = asked | {"attempt": open_attempt(runs, digest).name}
        write_atomically(note, json.dumps(own))
    elif (done.run / DONE_FILE).is_file():  # more trials may have made another choice since
        # By hand, where the gate refused.
        return replace(read_result(done.run / DONE_FILE), promoted=True)
    return run_update(best, home, on_event, source.folder, address)


def _promoted(note: Path, lineage: str, home: Home) -> Promoted | None:
    """What a note is about, where the update that it names has made the champion."""
    raw, champion = _read(note), home.registry.champion(lineage)
    start = raw["start"]
    assert start is None or isinstance(start, int), "it is a version's number"
    for claim in home.runs(lineage).glob(f"{raw['run']}*/{CLAIM_FILE}"):
        if int(claim.read_text(encoding="utf-8")) == champion:
            return Promoted(note.parent, start, claim.parent)
    return None


def _refused(note: Path, asked: JsonObject, runs: Path) -> UpdateResult | None:
    """The result of the attempt in a note, where the gate refused it and the same is asked."""
    raw = _read(note)
    done = runs / str(raw.get("attempt")) / DONE_FILE
    if any(raw.get(name) != value for name, value in asked.items()) or not done.is_file():
        return None
    result = read_result(done)
    return None if result.promoted else result


def _read(path: Path) -> JsonObject:
    return json.loads(path.read_text(encoding="utf-8"))
