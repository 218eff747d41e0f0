"""How much each parameter matters to what a model has learned: sums of per-example gradients.

`engine` runs the pass, `sites` captures what the rules need, `rules` knows the gradient of each
module type, `rows` is the slow way that is always right.
"""

from ratchet.pipelines.methods.importance.engine import GradientSums, squared_gradients
from ratchet.pipelines.methods.importance.rules import RULES, module_rule

__all__ = ["RULES", "GradientSums", "module_rule", "squared_gradients"]
