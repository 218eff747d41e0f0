# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
"""A quadratic pull towards remembered weights, with its gradient in closed form."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ratchet.pipelines.errors import DivergedError, MethodError

_CHUNK = 128 * 1024
"""Numbers handled at a time on a CPU: the difference stays in the second-level cache of a core."""

_SMALL = 16 * 1024
"""Parameters of so many numbers are handled all together, which spares calls."""

_SPARSE_BELOW = 0.3
"""Rows are gathered where fewer than this share of their neighbours matter: one costs thrice."""


class QuadraticPenalty:
    """The penalty 1/2 sum_i F_i (theta_i - center_i)^2 + constant, over parameters known by name.

    One anchor is kept however many tasks there were, also where every task asks for its own:
    quadratics add up to a quadratic, sum_t F_t (theta - a_t)^2 = F (theta - a)^2 + constant with F
    = sum_t F_t and a = sum_t F_t a_t / F. So neither the state nor the time of a step grows with
    the number of tasks.

    Names are the key: a parameter that the model has lost is passed over and remembered, one that
    no task has measured yet is left alone.

    Attributes:
        importance: F by name, float32. Never changed in place.
        center: The weights that are pulled towards, by name. Never changed in place.
        constant: What the sum over tasks has beyond the one quadratic, by name, float64 scalars.
    """

    def __init__(self) -> None:
        self.importance: dict[str, Tensor] = {}
        self.center: dict[str, Tensor] = {}
        self.constant: dict[str, Tensor] = {}
        self._terms: dict[str, _Term] = {}

    def merge(
        self,
        importance: Mapping[str, Tensor],
        center: Mapping[str, Tensor],
        *,
        decay: float = 1.0,
        per_task: bool = False,
    ) -> None:
        """Take in what a task has taught: F <- decay * F + F_new.

        Args:
            importance: F of the task by name, not negative.
            center: The weights after the task; a copy is kept. May hold further names.
            decay: What is left of the importance of earlier tasks.
            per_task: Whether earlier tasks go on pulling towards their own weights. Otherwise the
                center moves to the newest weights, for every parameter that `center` holds.

        Raises:
            DivergedError: An importance is not finite.
            MethodError: An importance is negative, lacks its center or has another shape than
                before.
        """
        for name, value in importance.items():
            self._check(name, value, center)
        for name, old in self.importance.items():
            self.importance[name] = old * decay if decay != 1.0 else old
            self.constant[name] = self.constant[name] * decay
        for name in center.keys() & (self.importance.keys() | importance.keys()):
            if name not in importance and per_task:
                continue
            new = importance.get(name)
            newest = center[name].detach().clone()
            self._merge_one(name, None if new is None else new.detach().float(), newest, per_task)
        self._prepare()

    def _merge_one(self, name: str, new: Tensor | None, newest: Tensor, per_task: bool) -> None:
        old = self.importance.get(name)
        if old is None:
            assert new is not None
            self.importance[name] = new.clone()
            self.center[name] = newest
            self.constant[name] = torch.zeros((), dtype=torch.float64)
            return
        if new is None:
            self.center[name] = newest
            return
        if old.device != new.device:  # just loaded from a file
            old, self.center[name] = old.to(new.device), self.center[name].to(new.device)
        total = old + new
        if per_task:
            share = torch.where(total > 0, new / total, torch.ones_like(total))
            former = self.center[name]
            lost = (old * share * (newest - former).square()).sum(dtype=torch.float64)
            self.constant[name] = self.constant[name] + 0.5 * lost.cpu()
            # Not `former + share * (newest - former)`: of a far centre that hardly counts, its
            # rounding would be left.
            newest = torch.where(total > 0, (old * former + new * newest) / total, newest)
        self.importance[name] = total
        self.center[name] = newest

    def _check(self, name: str, value: Tensor, center: Mapping[str, Tensor]) -> None:
        if not bool(torch.isfinite(value).all()):
            raise DivergedError(
                f"penalty: the importance of {name} is not finite; train more gently"
            )
        if bool((value < 0).any()):
            raise MethodError(f"penalty: the importance of {name} is negative; squares are wanted")
        if name not in center or center[name].shape != value.shape:
            raise MethodError(f"penalty: {name} needs a center of shape {list(value.shape)}")
        if name in self.importance and self.importance[name].shape != value.shape:
            raise MethodError(
                f"penalty: {name} had shape {list(self.importance[name].shape)} and now has "
                f"{list(value.shape)}; give the new parameter another name"
            )

    def value(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The penalty of some weights, a scalar that can be differentiated; for logs and tests."""
        total = torch.zeros(())
        for name, parameter in parameters.items():
            if name in self.importance:
                apart = parameter - self.center[name].to(parameter.device)
                importance = self.importance[name].to(parameter.device)
                own = 0.5 * (importance * apart.square()).sum()
                total = total.to(own.device) + own + self.constant[name].to(own)
        return total

    @torch.no_grad()
    def add_gradient(self, parameters: Mapping[str, nn.Parameter], strength: float) -> None:
        """Add strength * F * (theta - center) to `.grad` in place, without a graph.

        A parameter without `.grad` gets one only where its F is not all zero; strength 0 does
        nothing.
        """
        if strength == 0.0:
            return
        together: list[tuple[Tensor, Tensor, _Term]] = []
        for name, term in self._terms.items():
            parameter = parameters.get(name)
            if parameter is None:
                continue
            if term.importance.device != parameter.device:  # just loaded from a file
                term = self._terms[name] = term.to(parameter.device)
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.device.type == "cpu" and parameter.numel() > _SMALL:
                _add_in_chunks(parameter, parameter.grad, term, strength)
            else:
                together.append((parameter, parameter.grad, term))
        if together:
            _add_together(together, strength)

    def _prepare(self) -> None:
        self._terms = {}
        for name, importance in self.importance.items():
            term = _Term.of(importance, self.center[name])
            if term is not None:
                self._terms[name] = term

    def state_dict(self) -> dict[str, Tensor]:
        """The state as plain tensors, `importance/NAME`, `center/NAME`, `constant/NAME`."""
        fields = {
            "importance": self.importance,
            "center": self.center,
            "constant": self.constant,
        }
        return {
            f"{field}/{name}": tensor
            for field, tensors in fields.items()
            for name, tensor in tensors.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave, copied; it moves to the parameters' device when used.

        Raises:
            MethodError: The three tensors of a name are not all there.
        """
        parts: dict[str, dict[str, Tensor]] = {"importance": {}, "center": {}, "constant": {}}
        for key, tensor in state.items():
            field, _, name = key.partition("/")
            if field not in parts:
                raise MethodError(f"penalty: unknown state {key!r}; allowed are {sorted(parts)}")
            parts[field][name] = tensor.detach().clone()
        if not parts["importance"].keys() == parts["center"].keys() == parts["constant"].keys():
            raise MethodError("penalty: the state lacks an importance, a center or a constant")
        self.importance = parts["importance"]
        self.center = parts["center"]
        self.constant = parts["constant"]
        self._prepare()


class _Term:
    """One parameter's importance and center, and where its importance is not all zero.

    Most rows of an embedding belong to tokens that no task has shown: their F is exactly 0. Tokens
    are numbered by how common they are, so the rows that matter stand close together at first and
    far apart later: the former are taken as spans with what lies between, the latter one by one.

    Attributes:
        spans: Flat ranges that are taken whole.
        rows: Single rows besides, int64, or None; `row_importance` and `row_center` are theirs.
    """

    def __init__(
        self, importance: Tensor, center: Tensor, spans: list[slice], rows: Tensor | None
    ) -> None:
        self.importance = importance
        self.center = center
        self.spans = spans
        self.rows = rows
        self.row_importance = None if rows is None else importance[rows]
        self.row_center = None if rows is None else center[rows]

    @staticmethod
    def of(importance: Tensor, center: Tensor) -> _Term | None:
        """The term, or None where nothing is held."""
        if not bool(importance.any()):
            return None
        importance, center = importance.contiguous(), center.contiguous()
        if importance.ndim != 2:
            return _Term(importance, center, [slice(0, importance.numel())], None)
        num_rows, width = importance.shape
        matters = importance.any(dim=1).cpu()
        spans: list[slice] = []
        single: list[Tensor] = []
        size = max(1, _CHUNK // width)
        for start in range(0, num_rows, size):
            block = matters[start : start + size]
            found = block.nonzero()[:, 0] + start
            if len(found) >= _SPARSE_BELOW * len(block):
                spans.append(slice(start * width, (start + len(block)) * width))
            elif len(found):
                single.append(found)
        rows = torch.cat(single).to(importance.device) if single else None
        return _Term(importance, center, _joined(spans), rows)

    def to(self, device: torch.device) -> _Term:
        """The same on another device."""
        rows = None if self.rows is None else self.rows.to(device)
        return _Term(self.importance.to(device), self.center.to(device), self.spans, rows)


def _joined(spans: list[slice]) -> list[slice]:
    """Ascending spans, with those that touch made one."""
    joined: list[slice] = []
    for span in spans:
        if joined and joined[-1].stop == span.start:
            span = slice(joined.pop().start, span.stop)
        joined.append(span)
    return joined


def _add_in_chunks(parameter: Tensor, grad: Tensor, term: _Term, strength: float) -> None:
    if not (parameter.is_contiguous() and grad.is_contiguous()):
        grad.addcmul_(parameter - term.center, term.importance, value=strength)
        return
    scratch = torch.empty(min(_CHUNK, parameter.numel()), dtype=parameter.dtype)
    flat = [tensor.view(-1) for tensor in (parameter, term.center, term.importance, grad)]
    for span in term.spans:
        for weights, center, importance, out in zip(
            *(tensor[span].split(_CHUNK) for tensor in flat), strict=True
        ):
            apart = scratch[: weights.numel()]
            torch.sub(weights, center, out=apart)
            out.addcmul_(apart, importance, value=strength)
    if term.rows is not None:
        _add_to_rows(parameter, grad, term, max(1, _CHUNK // parameter.shape[1]), strength)


def _add_to_rows(
    parameter: Tensor, grad: Tensor, term: _Term, num_at_once: int, strength: float
) -> None:
    assert term.rows is not None
    assert term.row_center is not None
    assert term.row_importance is not None
    whole = (term.rows, term.row_center, term.row_importance)
    for rows, center, importance in zip(*(t.split(num_at_once) for t in whole), strict=True):
        apart = parameter.index_select(0, rows).sub_(center).mul_(importance)
        grad.index_add_(0, rows, apart, alpha=strength)


def _add_together(triples: list[tuple[Tensor, Tensor, _Term]], strength: float) -> None:
    """All spans of all parameters in two launches."""
    weights, centers, importances, grads = [], [], [], []
    for parameter, grad, term in triples:
        if not (parameter.is_contiguous() and grad.is_contiguous()):
            grad.addcmul_(parameter - term.center, term.importance, value=strength)
            continue
        for span in term.spans:
            weights.append(parameter.view(-1)[span])
            centers.append(term.center.view(-1)[span])
            importances.append(term.importance.view(-1)[span])
            grads.append(grad.view(-1)[span])
        if term.rows is not None:
            _add_to_rows(parameter, grad, term, len(term.rows), strength)
    if grads:
        apart = torch._foreach_sub(weights, centers)
        torch._foreach_addcmul_(grads, apart, importances, value=strength)


def held_parameter(name: str) -> str | None:
    """The parameter that a tensor of a penalty's state is laid out as, if any."""
    kind, _, parameter = name.partition("/")
    return parameter if kind in ("importance", "center") else None
