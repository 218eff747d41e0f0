"""What a study asks, as a name: the same question is the same study."""

from __future__ import annotations

import hashlib
import json

from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.update.plan import digest_from

MEASURED_FROM = "champion"
"""Where trials on top of a champion are measured from; by another measure it is another study."""


def study_name_of(spec: UpdateSpec, start: int | None) -> str:
    """A name for what is asked, which the same study has again.

    The budget and the rule of choice are left out: a study may go on with more trials.

    Args:
        spec: With its `tune` section.
        start: The version that trials start from, or None for the base model.
    """
    assert spec.tune is not None, "a study has something to search"
    aside = {"num_trials", "max_seconds", "num_parallel", "choose"}
    searched = spec.tune.model_dump(mode="json", exclude=aside)
    asked = [digest_from(spec, start), searched]
    if start is not None:
        asked.append(MEASURED_FROM)
    text = json.dumps(asked, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
