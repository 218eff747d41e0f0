import contextlib

import pytest
import torch

from ratchet.pipelines.models.precision import autocast, own_cpus, resolve_precision, set_threads

CPU = torch.device("cpu")


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken_on_any_processor(wanted):
    assert resolve_precision(wanted, CPU) == wanted


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", CPU) == expected


def test_a_forward_pass_runs_in_its_precision():
    layer, rows = torch.nn.Linear(3, 2), torch.zeros(1, 3)
    with autocast("bf16", CPU)():
        assert layer(rows).dtype == torch.bfloat16
    assert autocast("fp32", CPU) is contextlib.nullcontext


def test_a_part_of_a_cpu_is_still_one_thread():
    before = torch.get_num_threads()
    try:
        set_threads(0.5)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert own_cpus() >= 1
