"""Covers, beside `freeze`: `models.blocks`."""

import pytest

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.freeze import Freeze, blocks_of
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.spec.methods.isolation import FreezeConfig
from tests.pipelines.methods.contexts import NEXT, TASK, context_of


def opened(folder, config, epoch=0, seen=()):
    """Backbone parameters that train, by the part of the backbone they belong to."""
    model = load_classifier(str(folder))
    freeze = Freeze(config)
    freeze.expand(model, TASK)
    ctx = context_of(model, [], [NEXT if seen else TASK], seen=seen)
    ctx.epoch = epoch
    freeze.begin_epoch(ctx)
    names = [name for name in model.trainable() if name.startswith("backbone.")]
    return {".".join(name.split(".")[1:4]) if "layer" in name else "embeddings" for name in names}


@pytest.mark.parametrize(
    ("num_blocks", "parts"),
    [
        (0, set()),
        (1, {"encoder.layer.1"}),
        (2, {"encoder.layer.0", "encoder.layer.1"}),
    ],
)
@pytest.mark.parametrize("seen", [(), (TASK,)])
def test_the_last_blocks_train(tiny_model, num_blocks, parts, seen):
    assert opened(tiny_model, FreezeConfig(num_blocks=num_blocks), seen=seen) == parts


@pytest.mark.parametrize(
    ("epoch", "seen", "trains"),
    [(0, (), True), (1, (), True), (2, (), False), (0, (TASK,), False), (5, (TASK,), False)],
)
def test_the_warm_up_is_the_first_epochs_of_the_first_task(tiny_model, epoch, seen, trains):
    parts = opened(tiny_model, FreezeConfig(warmup_epochs=2), epoch, seen)
    assert bool(parts) == trains
    assert parts in (set(), {"embeddings", "encoder.layer.0", "encoder.layer.1"})


def test_more_blocks_than_there_are_is_an_error(tiny_model):
    model = load_classifier(str(tiny_model))
    with pytest.raises(MethodError, match=r"methods\.freeze\.num_blocks: 3 .* has 2; use"):
        Freeze(FreezeConfig(num_blocks=3)).expand(model, TASK)


def test_without_open_blocks_no_second_copy_of_the_base_is_needed(tiny_model):
    model = load_classifier(str(tiny_model))
    Freeze(FreezeConfig(num_blocks=0)).expand(model, TASK)
    assert not model.backbone_trains
    assert model.features_are_fixed


def test_an_architecture_without_a_list_of_blocks_is_refused(tiny_model):
    model = load_classifier(str(tiny_model))
    with pytest.raises(MethodError, match="has no list of 2 blocks"):
        blocks_of(model.backbone.embeddings, 2)
