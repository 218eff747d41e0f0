"""Covers, beside `full_model`: `load`."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.load import load_model
from ratchet.pipelines.spec.update_spec import ModelSpec

MODELS = [("classifier", "tiny_model"), ("causal_lm", "tiny_decoder")]


@pytest.fixture(params=MODELS, ids=[kind for kind, _ in MODELS])
def copied(request, tmp_path):
    kind, folder = request.param
    copy = shutil.copytree(request.getfixturevalue(folder), tmp_path / "copy")
    return copy, ModelSpec(name=str(copy), kind=kind)


def test_a_folder_whose_adapter_leads_to_another_model_is_refused(copied, tmp_path):
    folder, spec = copied
    shutil.copytree(folder, tmp_path / "other")
    settings = {"base_model_name_or_path": str(tmp_path / "other"), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))

    with pytest.raises(ModelError, match=r"^model\.name: .*starts from a full model"):
        load_model(spec)


@pytest.mark.parametrize(
    "name", ["{other}/model.safetensors", "../other/model.safetensors", "..", 7]
)
def test_a_folder_whose_shards_lie_elsewhere_is_refused(copied, tmp_path, name):
    folder, spec = copied
    other = shutil.copytree(folder, tmp_path / "other")
    name = name.format(other=other) if isinstance(name, str) else name
    index = {"metadata": {}, "weight_map": {"x": name}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ModelError, match=r"^model\.name: .*outside the folder"):
        load_model(spec)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": []}'])
def test_a_list_of_shards_that_is_none_is_refused(copied, content):
    folder, spec = copied
    (folder / "model.safetensors.index.json").write_text(content)

    with pytest.raises(ModelError, match=r"cannot be loaded"):
        load_model(spec)


def test_a_model_in_shards_of_its_own_is_loaded(tiny_decoder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    shutil.copytree(tiny_decoder, tmp_path / "shards")
    (tmp_path / "shards" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1

    loaded = load_model(ModelSpec(name=str(tmp_path / "shards"), kind="causal_lm"))

    assert loaded.dim == model.config.hidden_size
