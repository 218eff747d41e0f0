"""Streams taught without a driver: a plan, the teacher a worker runs, and what it knows after."""

from pathlib import Path

import torch

from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from tests.tiny import tiny_spec
from tests.tiny_lm import tiny_lm_spec

GENERAL_TEXT = str(Path(__file__).parents[1] / "general_text.txt")

SETTINGS = {
    "heads": {"cosine": True, "freeze_old_heads": True, "preallocate": True},
    "freeze": {"num_blocks": 1},
    "lora": {"rank": 2, "dropout": 0.1},
    "adapter": {"bottleneck": 4},
    "o_lora": {"rank": 2},
    "prefix": {"length": 3},
    "prompt": {"length": 3},
    "mam": {"length": 3, "bottleneck": 4},
    "osf": {"keep": 0.5},
    "analytic": {"width": 64},
    "columns": {"width": 0.5},
    "ewc": {"strength": 10.0},
    "expansion": {"width": 2.0, "active": 0.25},
    "experts": {"bottleneck": 4, "experts_per_task": 2},
    "lwf": {},
    "replay": {"capacity": 10, "fraction": 0.3},
    "si": {"strength": 50.0},
    "mas": {"strength": 10.0},
    "l2_sp": {"strength": 1.0},
    "wise_ft": {"strength": 0.3},
    "der": {"capacity": 10, "rows_per_step": 4},
    "agem": {"capacity": 10, "rows_per_step": 6},
    "generative": {"ratio": 1.5},
    "mixed_data": {"sources": [GENERAL_TEXT], "share": 0.3},
}
"""A vivid setting of every method: its row. What it is tested for, its claims say (`claims.py`)."""

VARIANTS = [
    [],
    [{"type": "freeze", "warmup_epochs": 1}],
    [{"type": "lora", "rank": 2, "per_task": True}],
    [{"type": "columns", "width": 0.5, "max_laterals": 1}],
    [{"type": "adapter", "bottleneck": 4, "variant": "houlsby", "per_task": True}],
    [{"type": "adapter", "bottleneck": 4, "variant": "parallel"}],
    [{"type": "prefix", "length": 3, "per_task": True}],
    [{"type": "prompt", "length": 3, "per_task": True}],
    [{"type": "mam", "length": 3, "bottleneck": 4, "per_task": True}],
    [{"type": "ewc", "decay": 0.5, "labels": "observed"}],
    [{"type": "ewc", "per_task": True, "max_examples": 8}],
    [{"type": "replay", "capacity": 10, "selection": "class_balanced", "every_steps": 2}],
    [{"type": "replay", "capacity": 10, "selection": "herding"}],
    [{"type": "heads", "layout": "per_task"}, {"type": "lwf"}],
    [{"type": "heads", "layout": "per_task"}, {"type": "mas", "max_examples": 8, "decay": 0.5}],
    [{"type": "lora", "rank": 2}, {"type": "l2_sp", "towards": "last", "strength": 1.0}],
    [{"type": "heads", "layout": "per_task"}, {"type": "der", "capacity": 10, "beta": 0.0}],
    [{"type": "agem", "capacity": 10, "selection": "class_balanced"}],
    [{"type": "heads", "layout": "per_task"}, {"type": "generative"}],
]


PAIRED_WITH_ALL = ("lora", "freeze")
"""Structures that are paired with every method; of the others each has a replay and a penalty."""


def legal_stacks():
    """Every method alone, the variants that change what is saved, and pairs of the families.

    Every penalty stands with every replay method and every other penalty, in one order: what a pair
    shares is the batch, the gradient and the generator, whoever comes first. A structure is only
    ever one of a pair, and most of them share one way of adding parts.
    """
    singles = [[{"type": kind, **SETTINGS[kind]}] for kind in SETTINGS]
    stacks = [*singles, *_pairs(singles), *VARIANTS]
    return [stack for stack in stacks if not problems_of(stack)]


def _pairs(singles):
    free = [one for one in singles if not METHOD_CONFIGS[one[0]["type"]].owns_structure]
    pairs = [[*one, *other] for place, one in enumerate(free) for other in free[place + 1 :]]
    for turn, owner in enumerate(one for one in singles if one not in free):
        legal = [[*owner, *one] for one in free if not problems_of([*owner, *one])]
        if owner[0]["type"] not in PAIRED_WITH_ALL and legal:
            half = len(legal) // 2
            legal = [legal[turn % len(legal)], legal[(turn + half) % len(legal)]]
        pairs += legal
    return pairs


ON_LANGUAGE_MODELS = [kind for kind in SETTINGS if "causal_lm" in METHOD_CONFIGS[kind].kinds]
"""Methods whose stacks are taught to the tiny decoder too, with their settings above."""

LANGUAGE_VARIANTS = [
    [],
    [{"type": "lora", "rank": 2, "per_task": True}],
    [{"type": "ewc", "labels": "observed", "max_examples": 8}],
    [{"type": "replay", "capacity": 10, "selection": "herding"}],
    [{"type": "replay", "capacity": 10, "selection": "class_balanced"}, {"type": "ewc"}],
    [{"type": "lora", "rank": 2}, {"type": "replay", "capacity": 10}, {"type": "lwf"}],
]


def language_stacks():
    """What the conformance tests teach to a language model."""
    singles = [[{"type": kind, **SETTINGS[kind]}] for kind in ON_LANGUAGE_MODELS]
    return [*singles, *LANGUAGE_VARIANTS]


def problems_of(stack, scenario="class_incremental", kind="classifier", **settings):
    configs = [METHOD_CONFIGS[method["type"]].model_validate(method) for method in stack]
    return stack_problems(configs, scenario, kind, **settings)


def name_of(stack):
    """A stack's name in the test report."""
    return "+".join("_".join(str(v) for v in method.values()) for method in stack) or "finetune"


def plan_of(
    model,
    folder,
    methods,
    tasks=("banking", "home"),
    parent=None,
    kind="classifier",
    **sections,
):
    """A planned update over tiny tasks; two epochs of two steps a task."""
    spec_of = {"classifier": tiny_spec, "causal_lm": tiny_lm_spec}[kind]
    training = {"num_epochs": 2, "batch_size": 16, **sections.pop("training", {})}
    held = {"data": sections.pop("data", {})}
    spec = spec_of(model, folder / "rows", "tiny", tasks, methods, training=training, **sections)
    spec = spec.model_validate(spec.model_dump() | held)
    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True)
    return make_plan(spec, open_start(parent), load_tokenizer(spec.model), run)


def teacher_of(plan, store=None, workers=None):
    """A fresh teacher, as a worker makes it when it starts; each rank has a folder of its own."""
    workers = workers or SingleWorker()
    store = store or FolderCheckpoints(plan.job.folder / f"checkpoints_of_{workers.rank}")
    return StreamTeacher(plan.job, plan.data, workers, torch.device("cpu"), store)


def taught(plan, **options):
    """A teacher that has taught its whole stream."""
    teacher = teacher_of(plan, **options)
    teacher.run()
    return teacher


class Interruption(Exception):
    """What stands for a killed process."""


class InterruptingCheckpoints(FolderCheckpoints):
    """Checkpoints whose `number`-th save is the last thing that happens."""

    def __init__(self, folder, number):
        super().__init__(folder)
        self.left = number

    def save(self, name, write):
        super().save(name, write)
        self.left -= 1
        if self.left == 0:
            raise Interruption(name)


def knowledge(teacher):
    """Everything that a teacher has learned and measured, as one flat mapping."""
    known = {f"model/{name}": tensor for name, tensor in teacher.model.learned_state().items()}
    known |= {f"router/{name}": tensor for name, tensor in teacher.router.state_dict().items()}
    for kind, state in teacher.stack.state_dicts().items():
        known |= {f"{kind}/{name}": tensor for name, tensor in state.tensors.items()}
        known[f"{kind}/values"] = state.values
        known[f"{kind}/rows"] = state.rows
    return known | {"scores": teacher.scores, "baseline": teacher.baseline}


def differences(one, other):
    """Names whose values are not equal bit for bit."""
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    return [name for name, value in one.items() if not _equal(value, other[name])]


def _equal(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
