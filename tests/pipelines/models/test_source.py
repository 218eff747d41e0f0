import shutil

import pytest

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.source import model_location, weights_hash


def test_a_folder_with_safetensors_is_itself(tiny_model):
    assert model_location(str(tiny_model)) == str(tiny_model)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="read from safetensors only"):
        model_location(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "hint"), [("minilmm", "Did you mean 'minilm'"), ("xyz", "short names: minilm")]
)
def test_unknown_short_names_are_refused_with_the_nearest(name, hint):
    with pytest.raises(ModelError, match=hint):
        model_location(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all"])
def test_paths_that_do_not_exist_are_not_taken_for_hub_ids(name):
    with pytest.raises(ModelError, match="no such model folder"):
        model_location(name)


def test_a_hub_id_passes():
    assert model_location("someone/some-model") == "someone/some-model"


@pytest.mark.parametrize("name", ["models/private", "./models/private", "private"])
def test_no_folder_is_looked_up_from_the_working_directory(tiny_model, tmp_path, monkeypatch, name):
    for place in ("models/private", "private"):
        shutil.copytree(tiny_model, tmp_path / place)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"model\.name: (names a model on the Hub|no such model)"):
        model_location(name)


def test_the_hash_follows_the_weights_and_not_the_place(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    assert weights_hash(str(copy)) == weights_hash(str(tiny_model))
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert weights_hash(str(copy)) != weights_hash(str(tiny_model))
