"""Rows of the conformance tests that follow from what the configs claim, and what is missing.

A method gets one row, a vivid setting in `SETTINGS`; everything else is selected by its claims.
"""

from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems
from tests.conformance.streams import SETTINGS

OTHER_VALUES: dict[tuple[str, str], object] = {}
"""By type and field: another value of an idle field, where it is no number."""


def row_of(kind, **changes):
    """A method's row, with some fields changed."""
    return {"type": kind, **SETTINGS[kind], **changes}


def claiming(claim):
    """Types of the methods that have a row and whose config says so, in the order of the list."""
    return [kind for kind, config in METHOD_CONFIGS.items() if kind in SETTINGS and claim(config)]


def zeros():
    """Every method at the 0 of every field that switches it off there."""
    return [
        row_of(kind, **{field: 0})
        for kind in claiming(lambda config: config.off_at_zero)
        for field in sorted(METHOD_CONFIGS[kind].off_at_zero)
    ]


def isolating():
    """Every method that isolates tasks, as its row says or with `per_task`."""
    rows = [row_of(kind) for kind in SETTINGS]
    rows += [
        row_of(kind, per_task=True)
        for kind in claiming(lambda config: "per_task" in config.model_fields)
    ]
    return [one for one in rows if METHOD_CONFIGS[one["type"]].model_validate(one).isolates_tasks]


def other_values(kind, field):
    """Values of an idle field beside its row's: another one, and 1, which may switch nothing off.

    Trials share a first task whatever an idle number is, unless it is 0.
    """
    config = METHOD_CONFIGS[kind]
    given = getattr(config.model_validate(row_of(kind)), field)
    if (kind, field) in OTHER_VALUES:
        return [OTHER_VALUES[kind, field]]
    if isinstance(given, bool) or not isinstance(given, int | float):
        return []
    near = given + 1 if isinstance(given, int) else given / 2
    others = dict.fromkeys(value for value in (near, 1) if value != given)
    return [value for value in others if not _refuses(config, kind, field, value)]


def missing(config, settings=SETTINGS):
    """What a config claims without a test, each with the words that say what to add."""
    kind, name = config.model_fields["type"].default, config.__name__
    if kind not in settings:
        return [
            f"{kind} has no row in the conformance tests: add a vivid setting of it to SETTINGS in "
            "tests/conformance/streams.py"
        ]
    found = []
    own = config.model_validate({"type": kind, **settings[kind]})
    for model in sorted(config.kinds):
        for problem in stack_problems([own], "class_incremental", model):
            found.append(
                f"{name} claims kinds {model}, and its row is refused there ({problem}): change "
                f"the row of {kind} in SETTINGS, or the claim"
            )
    for field in sorted(config.idle_in_first_task):
        if (kind, field) not in OTHER_VALUES and not _is_number(getattr(own, field)):
            found.append(
                f"{name} claims that {field} is idle in a first task, and no other value of it is "
                f"known: add one under ({kind!r}, {field!r}) to OTHER_VALUES in "
                "tests/conformance/claims.py"
            )
    if not config.owns_structure and not config.off_at_zero:
        found.append(
            f"{name} does not say where it is plain fine-tuning: name a field in `off_at_zero` "
            "that switches it off at 0"
        )
    for field in sorted(config.off_at_zero):
        if _refuses(config, kind, field, 0):
            found.append(f"{name} claims that {field} 0 switches it off, and refuses 0: allow it")
    return found


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuses(config, kind, field, value):
    try:
        config.model_validate({"type": kind, field: value})
    except ValueError:
        return True
    return False
