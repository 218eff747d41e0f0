"""The measurements of a lineage: those of its version and those of an update from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.errors import NotFoundError
from ratchet.pipelines.evaluation.history import History
from ratchet.pipelines.evaluation.instruments import Right
from ratchet.pipelines.evaluation.metrics import accuracy_matrix, intransigence
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.registry.manifest import MANIFEST_FILE
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.version import MATRIX_FILE, read_matrix


def lineage_history(job: UpdateJob, scores: Sequence[Scores], baseline: Scores) -> History:
    """Every measurement of a lineage, the parent version's rows first.

    Args:
        job: The update.
        scores: What its workers measured, after each stage.
        baseline: Scores of the untrained start; they count where there is no parent.
    """
    rows = list(scores)
    if job.parent is not None:
        before = read_history(job.parent)
        rows = [*before.rows, *rows]
        baseline = before.baseline
    return History(
        tuple(task.name for task in job.tasks),
        tuple(task.stage for task in job.tasks),
        tuple(rows),
        baseline,
    )


def read_history(folder: Path) -> History:
    """Every measurement that a version keeps of its lineage.

    Raises:
        VersionError: Its matrices are broken.
    """
    return History.from_dict(read_matrix(folder), str(folder / MATRIX_FILE))


@dataclass(frozen=True)
class _KeptRight:
    right: Right


def read_right(folder: Path) -> Right:
    """Which test rows a version got right when it was made.

    Raises:
        VersionError: Its matrices are broken.
    """
    where = str(folder / MATRIX_FILE)
    return checked(_KeptRight, read_matrix(folder), where, "restore it from a copy").right


def joint_history(reference: str, registry: Registry) -> History:
    """The measurements of a joint run.

    Args:
        reference: The folder of a version, or `lineage`, `lineage@3` in the registry.
        registry: Where lineages are looked up.

    Raises:
        NotFoundError: There is neither such a folder nor such a lineage.
    """
    folder = Path(reference)
    if not (folder / MANIFEST_FILE).is_file():
        try:
            # The registry would offer names near it, which a service's user may not know of.
            if reference.partition("@")[0] not in registry.lineages():
                raise NotFoundError(f"{reference}: there is no such lineage")
            folder = registry.resolve(reference)
        except NotFoundError as error:
            raise NotFoundError(
                f"evaluation.joint: {error}. {reference!r} is no folder of a version either; teach "
                "the same tasks with joint: true first, or remove evaluation.joint"
            ) from error
    return read_history(folder)


def intransigence_of(history: History, joint: History, measure: str) -> float | None:
    """mean_j (A_joint[j] − A[j, j]); None where the joint run lacks a task or the measure.

    Args:
        history: The measurements of the lineage.
        joint: Those of the joint run, whose last row counts.
        measure: Which accuracy of both.
    """
    matrix = history.matrix(measure)
    known = [joint.rows[-1].get(task, {}).get(measure) for task in history.tasks]
    bound = [value for value in known if value is not None]
    if matrix is None or len(bound) < len(known):
        return None
    return intransigence(accuracy_matrix(matrix, None, history.stages), bound)
