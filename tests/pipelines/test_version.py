import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from ratchet.pipelines.errors import ModelError, NotFoundError, VersionError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.manifest import MANIFEST_FILE, read_manifest, write_manifest
from ratchet.pipelines.version import load_version, read_held_out, read_states, read_weights
from tests.tiny import run_update, texts_of, tiny_spec

STACKS = {
    "full": [{"type": "replay", "capacity": 12}, {"type": "ewc"}],
    "lora": [{"type": "lora", "rank": 2, "per_task": True}],
    "shared": [{"type": "lora", "rank": 2}, {"type": "replay", "capacity": 5}],
    "analytic": [{"type": "analytic", "width": 64}],
    "seq": [
        {"type": "freeze", "warmup_epochs": 1},
        {"type": "heads", "cosine": True, "freeze_old_heads": True, "preallocate": True},
    ],
}


@pytest.fixture(scope="module")
def written(tiny_model, tmp_path_factory):
    """The folder of a version of each stack, written once."""
    known = {}

    def written(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            spec = tiny_spec(tiny_model, folder / "rows", "tiny", ["banking", "home"], STACKS[name])
            home = Home((folder / "home").resolve(), None)
            run_update(spec, home)
            known[name] = home.registry.path("tiny", 1)
        return known[name]

    return written


@pytest.fixture
def copied(written, tmp_path):
    """A copy of the version with per-task adapters, to be damaged."""
    return shutil.copytree(written("lora"), tmp_path / "1")


@pytest.mark.parametrize("name", STACKS)
def test_a_version_answers_as_it_was_measured(written, name):
    found = load_version(written(name))
    matrix = json.loads((written(name) / "accuracy_matrix.json").read_text())
    found.model.eval()
    for task in found.tasks:
        found.stack.activate(found.model, task.id)
        rows = read_held_out(written(name), task.id)
        tokens = found.model.tokenizer(rows.test, padding=True, return_tensors="pt")
        inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = found.model(inputs).logits
        own = torch.tensor(task.class_ids)
        best = own[logits[:, own].argmax(dim=-1)].tolist()
        right = [
            found.manifest.labels[index] == label
            for index, label in zip(best, rows.test_labels, strict=True)
        ]
        assert sum(right) / len(right) == pytest.approx(matrix["rows"][-1][task.name]["test_own"])


@pytest.mark.parametrize("name", STACKS)
def test_nothing_is_pickled_and_every_file_is_vouched_for(written, name):
    files = {
        p.relative_to(written(name)).as_posix() for p in written(name).rglob("*") if p.is_file()
    }
    endings = {file.rsplit(".", 1)[-1] for file in files}
    assert endings <= {"safetensors", "json", "parquet", "yaml", "html"}
    assert files - {MANIFEST_FILE} == read_manifest(written(name)).files.keys()


@pytest.mark.parametrize("name", ["lora", "shared"])
def test_plain_peft_loads_the_adapters_and_gives_the_same_features(tiny_model, written, name):
    ours = load_version(written(name))
    ours.model.eval()
    texts = texts_of("balance", 5) + texts_of("alarm", 5)
    tokens = AutoTokenizer.from_pretrained(tiny_model)(texts, padding=True, return_tensors="pt")
    inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    found = []
    for task in ours.tasks:
        ours.stack.activate(ours.model, task.id)
        adapter = ours.stack.methods["lora"].adapter_name(task.id)
        base = AutoModel.from_pretrained(tiny_model, add_pooling_layer=False)
        plain = PeftModel.from_pretrained(base, written(name) / "adapters" / adapter).eval()
        with torch.no_grad():
            states = plain(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            theirs = (states * mask).sum(dim=1) / mask.sum(dim=1)
            torch.testing.assert_close(ours.model.features(inputs), theirs)
        found.append(theirs)
    assert torch.equal(*found) == (name == "shared")


def test_adapters_name_the_base_model_and_no_place_on_this_machine(written):
    config = json.loads((written("shared") / "adapters/shared/adapter_config.json").read_text())
    assert config["inference_mode"] is True
    assert config["r"] == 2


@pytest.mark.parametrize(
    "name",
    ["weights.safetensors", "router.safetensors", "adapters/task_001/adapter_model.safetensors"],
)
def test_a_flipped_byte_stops_the_loading(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(VersionError, match=rf"{name} was changed"):
        load_version(copied)


def test_a_missing_file_stops_the_loading(copied):
    (copied / "router.safetensors").unlink()
    with pytest.raises(VersionError, match=r"router\.safetensors is missing"):
        load_version(copied)


def test_without_a_manifest_nothing_is_loaded(copied):
    (copied / MANIFEST_FILE).unlink()
    with pytest.raises(NotFoundError):
        load_version(copied)


def rewritten(folder, **changes):
    """The version with other fields in its manifest, its files vouched for again."""
    manifest = read_manifest(folder)
    for name, value in changes.items():
        object.__setattr__(manifest, name, value)
    write_manifest(folder, manifest)
    return folder


def test_other_base_weights_stop_the_loading(copied):
    base = read_manifest(copied).base_model | {"sha256": "0" * 64}
    with pytest.raises(VersionError, match="grew from other weights"):
        load_version(rewritten(copied, base_model=base))


@pytest.mark.parametrize(
    "methods", [[{"type": "telepathy"}], [{"type": "lora", "wings": 2}], [{}]], ids=str
)
def test_methods_of_another_release_stop_the_loading(copied, methods):
    with pytest.raises(VersionError, match="methods that this release does not know"):
        load_version(rewritten(copied, methods=methods))


@pytest.mark.parametrize("change", ["drop", "add", "shape"])
def test_weights_that_do_not_fit_stop_the_loading(copied, change):
    path = copied / "weights.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    if change == "add":
        tensors["heads.more"] = torch.zeros(1)
    elif change == "drop":
        del tensors[name]
    else:
        tensors[name] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(ModelError):
        load_version(rewritten(copied))


@pytest.mark.parametrize("change", ["drop", "add"])
def test_an_adapter_that_does_not_fit_stops_the_loading(copied, change):
    path = copied / "adapters" / "task_001" / "adapter_model.safetensors"
    tensors = load_file(path)
    if change == "add":
        tensors["base_model.model.more.lora_A.weight"] = torch.zeros(1)
    else:
        del tensors[next(iter(tensors))]
    save_file(tensors, path)
    with pytest.raises(VersionError, match="adapter task_001 does not fit"):
        load_version(rewritten(copied))


def test_states_are_read_as_they_were_written(written):
    states = read_states(written("full"))
    assert set(states) == {"heads", "replay", "ewc"}
    assert len(states["replay"].rows) == 12
    assert states["replay"].values["num_seen"] == 48
    assert {name.split("/")[0] for name in states["ewc"].tensors} == {
        "importance",
        "center",
        "constant",
    }


def test_weights_are_read_into_a_model_of_the_same_structure_only(written):
    other = load_version(written("full"))
    with pytest.raises(ModelError, match="do not fit"):
        read_weights(written("analytic"), other.model)
