"""Updates that cannot work: each is refused or stopped in words, and nothing that was is lost."""

import shutil

import pytest
from transformers import AutoConfig, FunnelBaseModel, FunnelConfig

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.errors import DataError, DivergedError, MethodError, NotFoundError, SpecError
from ratchet.pipelines.models.load import context_of
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.manifest import read_manifest, verify_files
from ratchet.pipelines.spec.update_spec import ModelSpec
from tests.tiny import run_update, tiny_spec
from tests.tiny_lm import tiny_lm_spec, write_rows

WILD = [
    {"type": "ewc", "strength": 1e38},
    {"type": "si", "strength": 1e38},
    {"type": "mas", "strength": 1e38},
    {"type": "l2_sp", "strength": 1e38},
    {"type": "lwf", "strength": 1e38},
    {"type": "der", "capacity": 8, "alpha": 1e38},
]
ONE_STEP = {"num_epochs": 1, "batch_size": 64, "schedule": "constant", "warmup_fraction": 0.0}


@pytest.fixture(scope="module")
def begun(tiny_model, tmp_path_factory):
    """A home with a lineage of one version, to be copied."""
    folder = tmp_path_factory.mktemp("begun")
    spec = tiny_spec(tiny_model, folder / "rows", "tiny", ["banking"], [{"type": "replay"}])
    run_update(spec, Home(folder / "home", None))
    return folder / "home"


def home_like(begun, folder):
    """A home of one's own with version 1 in it."""
    return Home(shutil.copytree(begun, folder / "home"), None)


def assert_as_it_was(home):
    """Version 1 is the champion, alone, and every file of it is whole."""
    assert home.registry.versions("tiny") == [1]
    assert home.registry.champion("tiny") == 1
    folder = home.registry.path("tiny", 1)
    verify_files(folder, read_manifest(folder))


@pytest.mark.parametrize("method", WILD, ids=lambda method: method["type"])
def test_a_strength_that_diverges_is_named_and_the_lineage_goes_on(
    tiny_model, begun, tmp_path, method
):
    home = home_like(begun, tmp_path)

    def spec(method):
        # The second task moves weights that the first has anchored.
        return tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["home", "kitchen"], [method])

    says = r"task '(home|kitchen)', step \d+: the gradient is not finite .*strength of a penalty"
    with pytest.raises(DivergedError, match=says):
        run_update(spec(method), home)
    assert_as_it_was(home)
    mended = {key: 0.01 if value == 1e38 else value for key, value in method.items()}
    assert run_update(spec(mended), home)["version"] == 2


def test_weights_that_the_last_step_ruined_do_not_become_a_version(tiny_model, tmp_path):
    home = Home(tmp_path / "home", None)

    def spec(rate):
        training = {**ONE_STEP, "learning_rate": rate}
        return tiny_spec(tiny_model, tmp_path, "tiny", ["banking"], [], training=training)

    says = r"task 'banking', step 1: the weights are not finite .*learning_rate \(1e\+38\)"
    with pytest.raises(DivergedError, match=says):
        run_update(spec(1e38), home)
    assert home.registry.versions("tiny") == []
    assert run_update(spec(1e-3), home)["version"] == 1


def test_weights_that_are_not_finite_do_not_become_a_checkpoint(tiny_model, tmp_path):
    home = Home(tmp_path / "home", None)
    training = {**ONE_STEP, "learning_rate": 1e38, "num_epochs": 9, "checkpoint_every_steps": 1}
    spec = tiny_spec(tiny_model, tmp_path, "tiny", ["banking"], [], training=training)
    with pytest.raises(DivergedError, match="step 1: the weights are not finite"):
        run_update(spec, home)
    assert list(home.folder.rglob("stage_*")) == []


@pytest.mark.parametrize("kind", ["adapter", "prefix", "prompt", "mam", "experts", "columns"])
def test_an_architecture_that_a_method_cannot_take_is_refused(tiny_model, tmp_path, kind):
    model = shutil.copytree(tiny_model, tmp_path / "funnel")
    config = FunnelConfig(
        vocab_size=200, block_sizes=[1, 1], d_model=32, n_head=2, d_head=16, d_inner=64
    )
    FunnelBaseModel(config).save_pretrained(model)
    home = Home(tmp_path / "home", None)
    spec = tiny_spec(model, tmp_path / "rows", "tiny", ["banking"], [{"type": kind}])
    with pytest.raises(MethodError, match=r"funnel|Funnel"):
        run_update(spec, home)
    assert home.registry.versions("tiny") == []


@pytest.mark.parametrize("joint", ["nowhere", "./no/folder", "tiny@7"])
def test_a_joint_run_that_is_not_there_is_named_with_its_field(tiny_model, begun, tmp_path, joint):
    home = home_like(begun, tmp_path)
    evaluation = {"joint": joint}
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["home"], [], evaluation=evaluation)
    with pytest.raises(NotFoundError, match=r"evaluation\.joint: .*no folder of a version either"):
        run_update(spec, home)
    assert_as_it_was(home)


def test_a_memory_must_have_room_for_the_classes_of_the_whole_lineage(tiny_model, begun, tmp_path):
    home = home_like(begun, tmp_path)

    def spec(capacity):
        methods = [{"type": "replay", "capacity": capacity}]
        return tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["home"], methods)

    with pytest.raises(SpecError, match=r"methods\[0\]\.capacity: there are 4 classes.*\(got 3\)"):
        run_update(spec(3), home)
    assert_as_it_was(home)
    assert run_update(spec(4), home)["version"] == 2


def test_a_prompt_longer_than_the_context_is_named_with_its_line(tiny_decoder, tmp_path):
    rows = [{"prompt": f"the {word} =", "completion": " way"} for word in ("me", "my", "is", "to")]
    rows[2]["prompt"] = "please tell me about the way " * 40
    task = {"name": "long", "train": write_rows(tmp_path / "long.jsonl", rows)}
    home = Home(tmp_path / "home", None)
    with pytest.raises(DataError, match=r"long\.jsonl:3: .*max_length"):
        run_update(tiny_lm_spec(tiny_decoder, tmp_path, "tiny", [task], []), home)
    over = {"max_length": 65}
    spec = tiny_lm_spec(tiny_decoder, tmp_path, "tiny", ["banking"], [], training=over)
    with pytest.raises(SpecError, match=r"training\.max_length: exceeds the 64 positions .*got 65"):
        run_update(spec, home)
    assert home.registry.versions("tiny") == []


def test_a_length_beyond_the_positions_of_an_encoder_is_refused_however_short_the_texts(
    tiny_model, tmp_path
):
    home = Home(tmp_path / "home", None)
    spec = tiny_spec(tiny_model, tmp_path, "tiny", ["banking"], [], training={"max_length": 65})
    says = r"training\.max_length: exceeds the 64 positions of .*got 65.*Use 64 or less"
    with pytest.raises(SpecError, match=says):
        run_update(spec, home)
    fits = tiny_spec(tiny_model, tmp_path, "tiny", ["banking"], [], training={"max_length": 64})
    assert run_update(fits, home)["version"] == 1
    # Short texts taught it, and a long one is cut where its positions end.
    long, cut = ("balance " * words for words in (200, 62))
    assert predict(home.folder, "tiny", [long]) == predict(home.folder, "tiny", [cut])


@pytest.mark.parametrize(("kind", "positions"), [("roberta", 64 - 2), ("bert", 64)])
def test_positions_that_are_not_for_text_are_not_counted(tmp_path, kind, positions):
    settings = {"max_position_embeddings": 64, "pad_token_id": 1}
    AutoConfig.for_model(kind, **settings).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert context_of(ModelSpec(name=str(tmp_path))) == positions
