"""How often the gate refuses and promotes, how far a chain of promotions sinks, what is covered.

    python -m tests.benchmarks.gate_simulation --updates 10000

Made-up answers, nothing is trained; each verdict is one of `gate.decide`. A challenger turns a
share of a task's rows (3 to 10 %, its churn), as many to wrong as to right and its true loss more.
Prints the tables of `docs/gate.md`, in about a minute on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np

from ratchet.pipelines.evaluation.anchors import Anchor, next_anchors
from ratchet.pipelines.evaluation.flips import pack_right
from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.paired import score_interval
from ratchet.pipelines.evaluation.row_outcomes import RowOutcomes
from ratchet.pipelines.spec.update_spec import GateSpec

CHOICES = ("estimate", "refuse", "promote")
CONFIDENCE, KNOWN = 0.95, 0.85
NUM_TASKS, CHAIN = 10, 50
SIZES = (
    (1, 200, 0.02),
    (10, 200, 0.02),
    (10, 200, 0.05),
    (1, 1000, 0.02),
    (10, 1000, 0.02),
    (10, 1000, 0.05),
    (10, 4000, 0.02),
)


@dataclass(frozen=True)
class Rule:
    """A gate to be tried: against the champion alone, as before, or against anchors."""

    name: str
    when_unsure: str
    anchored: bool

    @property
    def spec(self) -> GateSpec:
        return GateSpec(when_unsure=self.when_unsure)


RULES = (
    Rule("champion only, points, as before", "estimate", False),
    *(Rule(f"anchors, `{choice}`", choice, True) for choice in CHOICES),
)


def outcomes(right):
    return RowOutcomes("rows", pack_right(right), None)


def turned(right, ability, loss, generator):
    """Rows after an update that takes `loss` of the true ability and turns 3 to 10 % of them."""
    churn = max(generator.uniform(0.03, 0.10), loss)
    chance = generator.random(len(right))
    to_wrong = (churn + loss) / 2 / ability
    to_right = (churn - loss) / 2 / (1 - ability)
    return np.where(right, chance >= to_wrong, chance < to_right)


def known_rows(number, generator):
    return generator.random(number) < KNOWN


def promoted_shares(num_updates, sizes, losses, generator, limit=0.02):
    """The share that each choice promotes; `losses` holds the true loss of each task."""
    promoted = dict.fromkeys(("points", *CHOICES), 0)
    for _ in range(num_updates):
        before, after, points = {}, {}, True
        for task, loss in enumerate(losses):
            right = known_rows(generator.integers(*sizes, endpoint=True), generator)
            now = turned(right, KNOWN, loss, generator)
            before[str(task)], after[str(task)] = outcomes(right), outcomes(now)
            points &= bool(right.mean() - now.mean() <= limit + 1e-9)
        anchors = {task: Anchor(task, 1, own) for task, own in before.items()}
        verdict = decide(after, None, anchors, GateSpec(max_forgetting=limit, when_unsure="refuse"))
        found = [task.own for task in verdict.comparisons]
        promoted["points"] += points
        promoted["refuse"] += verdict.promoted
        promoted["estimate"] += all(not c.is_above for c in found)
        promoted["promote"] += all(c.outcome != "lost" for c in found)
    return {choice: number / num_updates for choice, number in promoted.items()}


def chain(rule, num_tasks, sizes, loss, generator):
    """Promotions, the points of true ability lost with them, and of the rows of the worst task."""
    tasks = [str(number) for number in range(num_tasks)]
    rows = {
        task: known_rows(generator.integers(*sizes, endpoint=True), generator) for task in tasks
    }
    taught = {task: outcomes(right) for task, right in rows.items()}
    first, spec, promotions = dict(rows), rule.spec, 0
    anchors = next_anchors({}, taught, 1, taught, spec)
    for version in range(2, CHAIN + 2):
        ability = KNOWN - promotions * loss
        after = {task: turned(right, ability, loss, generator) for task, right in rows.items()}
        packed = {task: outcomes(right) for task, right in after.items()}
        if decide(packed, None, anchors, spec).promoted:
            promotions, rows = promotions + 1, after
            held = anchors if rule.anchored else {}
            anchors = next_anchors(held, packed, version, {} if rule.anchored else packed, spec)
    seen = max(first[task].mean() - rows[task].mean() for task in tasks)
    raised = sum(anchor.version != 1 for anchor in anchors.values())
    return promotions, 100 * promotions * loss, 100 * seen, raised / num_tasks


def print_promoted(num_updates, generator):
    print(
        f"\nShare promoted, of {num_updates:,} updates without a true loss and of "
        f"{num_updates // 5:,} of each other kind, {NUM_TASKS} tasks of 40 to 400 rows"
    )
    print("| true loss | points, as before | " + " | ".join(CHOICES) + " |")
    print("|---|" + "---|" * (1 + len(CHOICES)))
    kinds = [("none", [0.0] * NUM_TASKS)]
    for loss in (0.01, 0.02, 0.05):
        kinds.append((f"{100 * loss:.0f} on one task", [loss] + [0.0] * (NUM_TASKS - 1)))
    for loss in (0.01, 0.02, 0.05):
        kinds.append((f"{100 * loss:.0f} on every task", [loss] * NUM_TASKS))
    for name, losses in kinds:
        own = num_updates if name == "none" else max(1, num_updates // 5)
        print_row(name, promoted_shares(own, (40, 400), losses, generator))


def print_sizes(num_updates, generator):
    print(f"\nShare promoted without any true loss, of {num_updates:,} updates")
    print(
        "| tasks, rows of each | `max_forgetting` | points, as before | "
        + " | ".join(CHOICES)
        + " |"
    )
    print("|---|---|---|---|---|---|")
    for num_tasks, rows, limit in SIZES:
        losses = [0.0] * num_tasks
        shares = promoted_shares(num_updates, (rows, rows), losses, generator, limit)
        print_row(f"{num_tasks} × {rows:,} | {limit}", shares)


def print_row(name, shares):
    print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares.values()) + " |")


def print_chains(num_chains, generator):
    print(
        f"\nPoints lost by a chain of {CHAIN} updates of true loss 0.5 points each, {num_chains} "
        "chains"
    )
    print("| tasks, rows of each | gate | promoted | on its rows | true loss | worst chain |")
    print("|---|---|---|---|---|---|")
    for num_tasks, rows in ((10, 200), (1, 200), (1, 1000)):
        for rule in RULES:
            found = [
                chain(rule, num_tasks, (rows, rows), 0.005, generator) for _ in range(num_chains)
            ]
            promoted, lost, seen, _ = np.array(found).mean(0)
            worst = max(own[1] for own in found)
            print(
                f"| {num_tasks} × {rows:,} | {rule.name} | {promoted:.1f} | {seen:.1f} "
                f"| {lost:.1f} | {worst:.1f} |"
            )


def print_luck(num_chains, generator):
    found = [chain(RULES[-1], 1, (200, 200), 0.0, generator) for _ in range(10 * num_chains)]
    promoted, _, _, raised = np.array(found).mean(0)
    print(
        f"\nWithout any true loss or gain, 1 × 200 rows, `promote`: of {CHAIN} updates "
        f"{promoted:.1f} are promoted, and {100 * raised:.0f} % of the anchors were raised by luck"
    )


def probabilities(number, share):
    places = np.arange(number + 1)
    logs = [
        math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1) for k in places
    ]
    return np.exp(logs) * share**places * (1 - share) ** (number - places)


def coverage(number, churn, loss):
    """Exact: how often the interval holds the true loss, lies below it, lies above it."""
    lost_share, gained_share = (churn + loss) / 2, (churn - loss) / 2
    held = below = above = 0.0
    for lost, outer in enumerate(probabilities(number, lost_share)):
        if outer < 1e-9:
            continue
        for gained, inner in enumerate(
            probabilities(number - lost, gained_share / (1 - lost_share))
        ):
            if outer * inner < 1e-9:
                continue
            low, high = score_interval(lost, gained, number, CONFIDENCE)
            held += outer * inner * (low <= loss <= high)
            below += outer * inner * (high < loss)
            above += outer * inner * (low > loss)
    return held, below, above


def print_coverage():
    print("\nWhat the 95 % interval covers, exactly: rows, churn, true loss")
    print("| rows | churn | true loss | covered | interval below it | above it |")
    print("|---|---|---|---|---|---|")
    for number in (36, 100, 200, 400):
        for churn in (0.03, 0.10):
            for loss in (0.0, 0.02):
                shares = coverage(number, churn, loss)
                cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
                print(f"| {number} | {100 * churn:.0f} % | {100 * loss:.0f} points | {cells} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator, began = np.random.default_rng(arguments.seed), time.monotonic()
    print_promoted(arguments.updates, generator)
    print_sizes(max(1, arguments.updates // 10), generator)
    print_chains(arguments.chains, generator)
    print_luck(arguments.chains, generator)
    print_coverage()
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
