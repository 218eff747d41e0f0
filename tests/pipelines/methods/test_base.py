"""Covers, beside `base`: `context`."""

import inspect

import pytest
import torch

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.methods.base import MemoryRow, Method, MethodStack, MethodState

HOOKS = {
    "foresee": (None, ()),
    "expand": (None, None),
    "activate": (None, 0),
    "begin_task": (None,),
    "begin_epoch": (None,),
    "watch_gradients": (None, None),
    "edit_gradients": (None, None),
    "correct_weights": (None,),
    "after_step": (None, None, None),
    "end_task": (None,),
}


class Recorder(Method):
    """Writes down what it was asked."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def __getattribute__(self, hook):
        if hook in HOOKS:
            return lambda *_: self.log.append((self.name, hook))
        return super().__getattribute__(hook)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_stack_asks_its_methods_in_order(hook):
    log = []
    stack = MethodStack({name: Recorder(name, log) for name in ("a", "b", "c")})
    getattr(stack, hook)(*HOOKS[hook])
    assert log == [("a", hook), ("b", hook), ("c", hook)]


class Settles(Recorder):
    settles_weights = True


def test_at_a_task_s_end_those_that_change_weights_come_first():
    log = []
    kinds = {"a": Recorder, "b": Settles, "c": Recorder, "d": Settles}
    stack = MethodStack({name: kind(name, log) for name, kind in kinds.items()})
    stack.end_task(None)
    assert [name for name, _ in log] == ["b", "d", "a", "c"]


def test_a_stack_has_every_hook_of_a_method_and_no_state_of_its_own():
    """What it has not cannot be called by mistake, and no default answers in its place."""
    hooks = {name: hook for name, hook in vars(Method).items() if inspect.isfunction(hook)}
    own = {"state_dict", "load_state_dict", "merge_states", "shard_state", "parameter_of"}
    assert own <= hooks.keys()
    assert not issubclass(MethodStack, Method)
    for name, hook in hooks.items():
        mine = vars(MethodStack).get(name)
        assert (mine is None) == (name in own), name
        if mine is not None:
            assert inspect.signature(mine) == inspect.signature(hook)


class Extends(Method):
    def __init__(self, letter):
        self.letter = letter

    def extend_batch(self, _ctx, batch):
        return batch + self.letter


def test_each_method_extends_what_the_one_before_left():
    stack = MethodStack({"a": Extends("a"), "b": Extends("b")})
    assert stack.extend_batch(None, "rows+") == "rows+ab"


class Adds(Method):
    def __init__(self, value):
        self.value = value

    def loss(self, _ctx, _batch, _output):
        return None if self.value is None else torch.tensor(self.value)


@pytest.mark.parametrize(
    ("values", "total"), [((None, None), None), ((1.0, None), 1.0), ((1.0, 2.5), 3.5)]
)
def test_the_losses_are_added(values, total):
    stack = MethodStack({str(i): Adds(value) for i, value in enumerate(values)})
    found = stack.loss(None, None, None)
    assert found is None if total is None else float(found) == total


class NoGradients(Method):
    trains = False
    exact = True


def test_one_method_without_gradients_or_in_need_of_precision_decides_for_the_stack():
    plain = MethodStack({"a": Method()})
    assert plain.learns_by_gradient
    assert not plain.needs_float32
    mixed = MethodStack({"a": Method(), "b": NoGradients()})
    assert not mixed.learns_by_gradient
    assert mixed.needs_float32


@pytest.mark.parametrize("saved", [{}, {"a", "b", "c"}, {"a", "x"}])
def test_states_of_other_methods_are_refused(saved):
    stack = MethodStack({"a": Method(), "b": Method()})
    with pytest.raises(VersionError, match=r"the stack has \['a', 'b'\]"):
        stack.load_state_dicts({name: MethodState() for name in saved})


def test_the_size_of_a_state_counts_tensors_and_text():
    state = MethodState({"w": torch.zeros(3, dtype=torch.float64)}, {}, [MemoryRow("äb", 0, 0)])
    assert state.num_bytes == 24 + 3 + 16
