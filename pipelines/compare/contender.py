"""What is compared: a preset, a method with its defaults, or a stack from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.files.yaml_file import read_yaml
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.presets import preset_names, read_preset
from ratchet.pipelines.spec.problems import unknown


@dataclass(frozen=True)
class Contender:
    """One stack of methods in a comparison.

    Attributes:
        name: What its rows are called.
        methods: The stack, as a spec writes it.
        joint: Whether all tasks are learned at once.
        training: Training settings that come with it.
    """

    name: str
    methods: Sequence[Mapping[str, Json]]
    joint: bool
    training: Mapping[str, Json]

    @property
    def family(self) -> str:
        """The family of its methods: `baseline` for none, `combined` for several.

        Types that do not exist are left to the check of the spec.
        """
        if self.joint or not self.methods:
            return "baseline"
        types = [str(method.get("type")) for method in self.methods]
        families = {METHOD_CONFIGS[kind].family for kind in types if kind in METHOD_CONFIGS}
        return families.pop() if len(families) == 1 else "combined"

    def with_seed(self, seed: int) -> list[JsonObject]:
        """The stack with every method's own random choice drawn from another seed."""
        return [_seeded(method, seed) for method in self.methods]


def contenders(names: Sequence[str]) -> list[Contender]:
    """The contenders of these names, in order, each once.

    A name is a preset, else a method with its defaults; a name that ends in `.yaml` is a file in
    the form of a preset and is called by its stem.

    Raises:
        SpecError: With every name that is unknown or stands for two things.
    """
    found: dict[str, Contender] = {}
    problems = []
    for name in dict.fromkeys(names):
        if name.endswith((".yaml", ".yml")):
            own = _from_fields(Path(name).stem, read_yaml(Path(name)))
        elif name in preset_names():
            own = _from_fields(name, read_preset(name))
        elif name in METHOD_CONFIGS:
            own = Contender(name, ({"type": name},), False, {})
        else:
            known = sorted({*preset_names(), *METHOD_CONFIGS})
            problems.append(unknown("--methods", name, known, "method or preset"))
            continue
        if own.name in found:
            problems.append(Problem("--methods", f"two contenders are called {own.name!r}", name))
        found[own.name] = own
    if not found and not problems:
        problems.append(Problem("--methods", "name at least one method or preset"))
    if problems:
        raise SpecError(problems)
    return list(found.values())


def _from_fields(name: str, fields: Any) -> Contender:
    if not isinstance(fields, Mapping):
        raise SpecError([Problem(name, "a stack's file is a mapping with `methods`", fields)])
    odd = sorted(fields.keys() - {"methods", "joint", "training", "gate"})
    if odd:
        hint = "It may set methods, joint and training"
        raise SpecError(
            [Problem(f"{name}.{odd[0]}", "a stack's file does not set this", hint=hint)]
        )
    methods, training = fields.get("methods") or (), fields.get("training") or {}
    joint = fields.get("joint", False)
    listed = isinstance(methods, Sequence) and all(isinstance(own, Mapping) for own in methods)
    wrong = [
        Problem(f"{name}.{field}", f"should be {allowed}", fields[field])
        for field, allowed, is_right in (
            ("methods", "a list of methods, each like {type: ewc}", listed),
            ("training", "a mapping of fields", isinstance(training, Mapping)),
            ("joint", "true or false", isinstance(joint, bool)),
        )
        if not is_right
    ]
    if wrong:
        raise SpecError(wrong)
    return Contender(name, tuple(methods), joint, training)


def _seeded(method: Mapping[str, Json], seed: int) -> JsonObject:
    own = METHOD_CONFIGS.get(str(method.get("type")))
    fields = {} if own is None else own.model_fields
    return {**method, **{name: seed for name in fields if name.endswith("seed")}}
