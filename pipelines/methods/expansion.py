"""Fixed expansion layers: per task one wide, sparse layer between frozen backbone and head."""

from __future__ import annotations

from torch import nn

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.models.expansion import ExpandedHeads
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.growth import ExpansionConfig
from ratchet.pipelines.types import Task


class Expansion(Method):
    """A wide layer and a head a task on a backbone that never changes; see `ExpansionConfig`.

    Which blocks there are and which train is the business of `Heads`, as with any head a
    task.

    Source: Coop & Arel 2013, IEEE TNNLS 24(10). Deviations: theirs is one random layer that never
    learns; here each task's layer learns with the task and is fixed afterwards. The features are
    normalised over their width, so that units of different rows compare, and only the largest
    pre-activations trigger a unit, not the most negative ones.
    """

    def __init__(self, config: ExpansionConfig) -> None:
        self.config = config

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Freeze the backbone and put heads with wide layers onto it, once.

        Raises:
            MethodError: So few units are asked for that none would fire.
        """
        if not isinstance(model.heads, nn.Identity):
            return
        num_units = round(model.dim * self.config.width)
        num_active = round(num_units * self.config.active)
        if num_active < 1:
            raise MethodError(
                f"methods.expansion: width {self.config.width} and active {self.config.active} "
                f"give {num_units} units on {model.name} (width {model.dim}), of which "
                f"{num_active} would fire; raise one of them until a unit fires"
            )
        model.keep_base()
        model.heads = ExpandedHeads(model.dim, num_units, num_active).to(model.device)
