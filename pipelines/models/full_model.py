"""Whether what is loaded is the model that was named, whole and in its own files."""

from __future__ import annotations

import json
from pathlib import Path

from transformers.utils.peft_utils import find_adapter_config_file

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.files.patterns import is_plain_name


def check_full_model(location: str) -> None:
    """Make sure that a model folder, or a model on the Hub, leads to no other one.

    Where it holds an adapter's settings, transformers loads the weights of whatever model or folder
    these name instead; of the Hub nothing but that file is looked up. The list of a folder's shards
    may name files elsewhere, too.

    Raises:
        ModelError: It holds the settings of an adapter, or names weights that lie elsewhere.
        OSError: The Hub knows no such model.
        ValueError: The list of its shards cannot be read.
    """
    if find_adapter_config_file(location) is not None:
        raise ModelError(
            f"model.name: {location} holds an adapter (adapter_config.json), and Ratchet starts "
            "from a full model; name the adapter's base model, or merge the two and save the "
            "result without that file"
        )
    index = Path(location) / "model.safetensors.index.json"
    for name in _shards(index) if index.is_file() else ():
        if not is_plain_name(name):
            raise ModelError(f"model.name: {index} names weights outside the folder: {name!r}")


def _shards(index: Path) -> list[object]:
    """The names of the files that hold a model's weights."""
    found = json.loads(index.read_text(encoding="utf-8"))
    named = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(named, dict):
        raise ValueError(f"{index.name} names no weights")
    return list(named.values())
