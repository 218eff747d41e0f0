"""Covers `pipelines.training.workers`.

Two workers: they stay equal, see every row once, and keep the whole memory between them.
"""

import pytest
import torch

from ratchet.pipelines.methods.base import MemoryRow
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from tests.conformance.claims import claiming
from tests.conformance.groups import in_group
from tests.conformance.streams import (
    InterruptingCheckpoints,
    Interruption,
    differences,
    knowledge,
    legal_stacks,
    name_of,
    plan_of,
    taught,
    teacher_of,
)

SHARDED = claiming(lambda config: config.stores_examples)
"""Methods whose memory is each worker's own shard."""

SOME = [
    stack
    for stack in legal_stacks()
    if len(stack) == 1 or {m["type"] for m in stack} & {"ewc", "replay"} == {"ewc", "replay"}
]


def learned(workers, plan):
    return knowledge(taught(plan, workers=workers))


def shared(known):
    return {name: value for name, value in known.items() if name.split("/")[0] not in SHARDED}


@pytest.mark.parametrize("stack", [[], *SOME], ids=name_of)
def test_two_workers_stay_equal(tiny_model, tmp_path, stack):
    plan = plan_of(tiny_model, tmp_path, stack)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    if not all(METHOD_CONFIGS[method["type"]].trains for method in stack):
        one, two = _whole(one), _whole(two)
    assert differences(shared(one), shared(two)) == []


def _whole(known):
    """Without the sums: they are the first rank's until the next stage."""
    return {name: value for name, value in known.items() if not name.startswith("analytic/")}


def gradients(workers, plan, sizes):
    """The averaged gradient of one step, the ranks holding as many of the rows as `sizes` says."""
    teacher = teacher_of(plan, workers=workers)
    teacher._start_lineage(None)
    stage = plan.job.stages[0]
    teacher._expand(stage)
    loop_ctx = teacher._context(stage)
    from ratchet.pipelines.training.loop import Position, StageLoop

    loop = StageLoop(loop_ctx, teacher.stack, teacher._rows(stage), teacher.training, workers)
    teacher.stack.activate(teacher.model, stage[-1].id)
    teacher.stack.begin_task(loop_ctx)
    loop.start(Position())
    teacher.model.eval()  # dropout would give every rank its own
    start = sum(sizes[: workers.rank])
    rows = range(start, start + sizes[workers.rank])
    caught = {}

    def catch(ctx, batch):
        caught.update({name: p.grad.clone() for name, p in ctx.model.trainable().items()})

    teacher.stack.edit_gradients = catch
    loop.step(teacher._rows(stage).batch(rows))
    return caught


@pytest.mark.parametrize("sizes", [(4, 4), (7, 1), (8, 0), (0, 8)], ids=str)
def test_the_gradient_of_two_workers_is_that_of_one_over_the_same_rows(tiny_model, tmp_path, sizes):
    plan = plan_of(tiny_model, tmp_path, [])
    (whole,) = in_group(1, tmp_path / "alone", gradients, plan, (8,))
    for mine in in_group(2, tmp_path / "pair", gradients, plan, sizes):
        assert mine.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(mine[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_share_of_no_rows_does_not_stop_the_group_when_features_are_tabled(tiny_model, tmp_path):
    # 25 rows in batches of 24: one step of the epoch leaves a worker without rows, maybe the first.
    for seed in range(4):
        plan = plan_of(
            tiny_model,
            tmp_path / str(seed),
            [{"type": "freeze", "num_blocks": 0}],
            training={"batch_size": 23, "seed": seed, "num_epochs": 1},
        )
        one, two = in_group(2, tmp_path / f"found_{seed}", learned, plan)
        assert differences(one, two) == []


def backbone_after_warm_up(workers, plan):
    known = knowledge(taught(plan, workers=workers))
    return {name: value for name, value in known.items() if name.startswith("model/backbone")}


@pytest.mark.parametrize("world_size", [1, 2])
def test_what_is_frozen_after_the_warm_up_is_not_moved_by_moments_or_decay(
    tiny_model, tmp_path, world_size
):
    stack = [{"type": "freeze", "warmup_epochs": 1}]
    found = []
    for num_epochs in (1, 3):
        folder = tmp_path / str(num_epochs)
        training = {"schedule": "constant", "weight_decay": 0.5, "num_epochs": num_epochs}
        plan = plan_of(tiny_model, folder, stack, ("banking",), training=training)
        found.append(in_group(world_size, folder / "found", backbone_after_warm_up, plan)[0])
    assert differences(*found) == []


def rank_checkpoints(workers, plan, number):
    """A run that is cut off after some saves and begun again, in one group."""
    folder = plan.job.folder / f"rank_{workers.rank}"
    if number:
        with pytest.raises(Interruption):
            taught(plan, workers=workers, store=InterruptingCheckpoints(folder, number))
        _join_ranks(workers, plan)
    again = InterruptingCheckpoints(folder, -1)
    return knowledge(taught(plan, workers=workers, store=again))


def _join_ranks(workers, plan):
    """Put the ranks' files into one folder, as Ray Train does."""
    workers.barrier()
    name = sorted((plan.job.folder / "rank_0").glob("stage_*"))[-1].name
    if workers.rank:
        for path in (plan.job.folder / "rank_0" / name).iterdir():
            target = plan.job.folder / f"rank_{workers.rank}" / name / path.name
            if not target.exists():
                target.write_bytes(path.read_bytes())
    workers.barrier()


@pytest.mark.parametrize(
    "stack",
    [
        [{"type": "replay", "capacity": 10}, {"type": "ewc"}],
        [{"type": "replay", "capacity": 11, "selection": "herding"}, {"type": "lwf"}],
        [{"type": "der", "capacity": 11, "rows_per_step": 5}, {"type": "si", "strength": 50.0}],
        [{"type": "agem", "capacity": 10, "rows_per_step": 5}],
    ],
    ids=name_of,
)
@pytest.mark.parametrize("number", [1, 5])
def test_two_workers_go_on_inside_a_task_with_their_own_memory_and_numbers(
    tiny_model, tmp_path, stack, number
):
    training = {"checkpoint_every_steps": 1}
    plan = plan_of(tiny_model, tmp_path / "plan", stack, training=training)
    whole = in_group(2, tmp_path / "whole", learned, plan)
    resumed = in_group(2, tmp_path / "resumed", rank_checkpoints, plan, number)
    for one, other in zip(whole, resumed, strict=True):
        assert differences(one, other) == []
    rows = [row for known in resumed for row in known[f"{stack[0]['type']}/rows"]]
    assert len(rows) == stack[0]["capacity"]
    assert all(isinstance(row, MemoryRow) for row in rows)


def saves_together(workers, folder):
    """What a rank finds after each of four checkpoints."""
    store, found = FolderCheckpoints(folder, workers), [None]
    assert store.latest() is None
    for step in range(4):

        def write(partial, step=step):
            partial.mkdir(parents=True, exist_ok=True)
            (partial / f"rank_{workers.rank}").write_text(str(step))

        store.save(f"stage_000_step_{step:07d}", write)
        latest = store.latest()
        files = {path.name: path.read_text() for path in latest.iterdir()}
        found.append((latest.name, files))
        workers.barrier()
    return found[1:]


def test_a_group_saves_whole_checkpoints_and_keeps_the_last_two(tmp_path):
    folder = tmp_path / "checkpoints"
    (folder / ".partial_stage_000_step_0000000_of_a_killed_group").mkdir(parents=True)
    (folder / ".ray").mkdir()
    first, second = in_group(2, tmp_path / "group", saves_together, folder)
    assert first == second
    assert first == [
        (f"stage_000_step_{step:07d}", {"rank_0": str(step), "rank_1": str(step)})
        for step in range(4)
    ]
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".ray", "stage_000_step_0000002", "stage_000_step_0000003"]
