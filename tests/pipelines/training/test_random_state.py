import torch

from ratchet.pipelines.training.random_state import random_state, set_random_state


def test_what_computes_on_the_cpu_asks_nothing_of_a_gpu_nearby(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: asked.append("read"))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda _: asked.append("written"))
    generator = torch.Generator()
    state = random_state(generator)
    set_random_state(state | {"cuda": torch.zeros(8)}, generator)
    assert (set(state), asked) == ({"torch", "rank"}, [])


def test_draws_repeat_once_the_state_is_put_back():
    generator = torch.Generator()
    state = random_state(generator)
    drawn = torch.rand(3), torch.rand(3, generator=generator)
    set_random_state(state, generator)
    assert torch.equal(drawn[0], torch.rand(3))
    assert torch.equal(drawn[1], torch.rand(3, generator=generator))
