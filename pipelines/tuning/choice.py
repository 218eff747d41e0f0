"""Which trial of a study is used, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.pages.words import hundredths, percent
from ratchet.pipelines.spec.tune import ChooseSpec
from ratchet.pipelines.tuning.front import TIE, Placed, best_by, front, knee, placed
from ratchet.pipelines.tuning.trial import Trial


@dataclass(frozen=True)
class Choice:
    """The trial that is used.

    Attributes:
        trial: The trial.
        rule: The rule that chose it.
        reason: What the rule found, as a sentence.
    """

    trial: Trial
    rule: str
    reason: str

    def as_dict(self) -> JsonObject:
        """Plain JSON values."""
        return {
            "number": self.trial.number,
            "settings": dict(self.trial.settings),
            "rule": self.rule,
            "reason": self.reason,
        }


def choose(
    trials: Sequence[Trial],
    choose: ChooseSpec,
    objectives: Sequence[str] = ("plasticity", "stability"),
) -> Choice | None:
    """The trial that a rule takes, by what validation rows say; None where no trial finished.

    `average_accuracy` and `knee` take a trial of the front. `bounded_forgetting` looks at every
    finished trial, because a study need not have plasticity and stability as its objectives; where
    it has, what is found is on the front. A stream of one task cannot be forgotten, so its missing
    forgetting counts as none. Ties go to the better objectives, then the lower number.
    """
    if not (members := front(trials, objectives)):
        return None
    trial, reason = _RULES[choose.rule](members, placed(trials, objectives), choose)
    return Choice(trial, choose.rule, reason)


def _most_accurate(
    members: Sequence[Placed], _: Sequence[Placed], __: ChooseSpec
) -> tuple[Trial, str]:
    best = _best(members, lambda trial: trial.mean("average_accuracy"))
    accuracy = percent(best.mean("average_accuracy"))
    return best, f"the highest average accuracy on the front, {accuracy} on validation rows"


def _at_the_knee(
    members: Sequence[Placed], _: Sequence[Placed], __: ChooseSpec
) -> tuple[Trial, str]:
    best = knee(members)
    assert best is not None, "a front has members"
    if len(members) == 1:
        return best, "the only trial on the front"
    return best, f"the knee: of {len(members)} trials on the front the furthest from its ends"


def _within_the_bound(
    _: Sequence[Placed], finished: Sequence[Placed], choose: ChooseSpec
) -> tuple[Trial, str]:
    bound = hundredths(choose.max_forgetting)
    within = [own for own in finished if _forgetting(own.trial) <= choose.max_forgetting + TIE]
    if within:
        best = _best(within, lambda trial: trial.mean("learning_accuracy"), _steadiness)
        learned = percent(best.mean("learning_accuracy"))
        return best, (
            f"the highest learning accuracy, {learned}, among the {len(within)} of "
            f"{len(finished)} finished trials that forget at most {bound} points"
        )
    best = _best(finished, _steadiness, lambda trial: trial.mean("learning_accuracy"))
    least = hundredths(_forgetting(best))
    return best, (
        f"no trial forgets at most {bound} points; this one forgets least, {least} points. "
        "Allow more with tune.choose.max_forgetting, or search stronger methods"
    )


def _forgetting(trial: Trial) -> float:
    value = trial.mean("forgetting")
    return 0.0 if value is None else value


def _steadiness(trial: Trial) -> float:
    return -_forgetting(trial)


def _best(found: Sequence[Placed], *measures: Callable[[Trial], float | None]) -> Trial:
    points = {own.trial.number: own.point for own in found}
    axes = [
        lambda trial, axis=axis: points[trial.number][axis] for axis in range(len(found[0].point))
    ]
    return best_by([own.trial for own in found], *measures, *axes)


_Rule = Callable[[Sequence[Placed], Sequence[Placed], ChooseSpec], tuple[Trial, str]]
_RULES: Mapping[str, _Rule] = {
    "average_accuracy": _most_accurate,
    "knee": _at_the_knee,
    "bounded_forgetting": _within_the_bound,
}
