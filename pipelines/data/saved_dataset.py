"""Reading a Hugging Face data set that was saved with `save_to_disk`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from fsspec.spec import AbstractFileSystem

from ratchet.pipelines.data.readers import Broken, Record, missing_columns
from ratchet.pipelines.files.patterns import is_plain_name


def read_saved_dataset(
    filesystem: AbstractFileSystem, folder: str, columns: Sequence[str]
) -> Iterator[Record]:
    """Rows of a saved data set; class numbers become their names, the line is the row from 1."""
    try:
        import datasets  # an optional dependency: only these folders need it
    except ImportError:
        yield (
            1,
            Broken(
                "a saved Hugging Face data set is read with the package `datasets`",
                hint="Install it: pip install '.[huggingface]' in Ratchet's folder",
            ),
        )
        return
    try:
        _check_names(json.loads(filesystem.cat_file(f"{folder}/state.json")))
        saved = datasets.load_from_disk(filesystem.unstrip_protocol(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield 1, Broken(f"not a readable saved data set ({error})")
        return
    if not isinstance(saved, datasets.Dataset):
        yield 1, Broken("a saved data set of several splits", hint="Name the folder of one split")
        return
    if not set(columns) <= set(saved.column_names):
        yield 1, missing_columns(saved.column_names, columns)
        return
    names: list[Any] = [getattr(saved.features[column], "names", None) for column in columns]
    line = 0
    for batch in saved.select_columns(list(dict.fromkeys(columns))).iter(batch_size=16_384):
        values = [cast(dict[str, list[Any]], batch)[column] for column in columns]
        for row in zip(*values, strict=True):
            line += 1
            yield line, [_named(value, of) for value, of in zip(row, names, strict=True)]


def _check_names(state: Any) -> None:
    """Make sure that the rows of a data set lie in its own folder, before anything is opened.

    Raises:
        ValueError: A file is named that lies elsewhere.
        KeyError: No files are named.
        TypeError: The state has another form.
    """
    for file in state["_data_files"]:
        name = file["filename"]
        if not is_plain_name(name):
            raise ValueError(f"state.json names a file that is not in the folder: {name!r}")


def _named(value: Any, names: Sequence[str] | None) -> Any:
    """The name of a class number; -1 is how the format marks a row without a label."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if value >= 0 else None
