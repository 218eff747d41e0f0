"""What a batch of 32 rows over 10 adapters costs, against the same batch through the base alone.

Run: python -m tests.benchmarks.adapter_batch [--repeats 15] [--adapters 10] [--length 20]

One thread, processor time: what else the machine does hardly counts. Prints medians, and the 10th
to 90th percentile of the ratios, for the base, for stacked slots (what serving does), for PEFT's
`adapter_names`, and for PEFT's `set_adapter` in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModel

from ratchet.pipelines.answering.adapter_bank import read_adapter
from ratchet.pipelines.answering.frozen_base import FrozenBase
from ratchet.pipelines.models.source import model_location
from ratchet.pipelines.quiet import quiet_libraries

ROWS = 32


def peft_model(location: str, num_adapters: int, rank: int) -> PeftModel:
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION, r=rank, lora_alpha=16, target_modules="all-linear"
    )
    base = AutoModel.from_pretrained(location, add_pooling_layer=False)
    model = get_peft_model(base, config, adapter_name="task_000")
    for index in range(1, num_adapters):
        model.add_adapter(f"task_{index:03d}", config)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--adapters", type=int, default=10)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = FrozenBase("minilm", "mean", torch.device("cpu"))
    peft = peft_model(model_location("minilm"), arguments.adapters, arguments.rank)
    plain = AutoModel.from_pretrained(model_location("minilm"), add_pooling_layer=False).eval()
    names = list(peft.peft_config)
    slots = []
    for name in names:
        with TemporaryDirectory() as folder:
            peft.save_pretrained(folder, selected_adapters=[name])
            place = Path(folder) / name
            adapter = read_adapter(place)
        slots.append(base.bank.place(name, lambda adapter=adapter: adapter))
    inputs = {
        "input_ids": torch.randint(1000, 20000, (ROWS, arguments.length)),
        "attention_mask": torch.ones(ROWS, arguments.length, dtype=torch.int64),
    }
    mine = torch.arange(ROWS) % len(names)
    chosen = torch.tensor(slots)[mine]
    row_names = [names[index] for index in mine]
    groups = [(names[i], torch.nonzero(mine == i)[:, 0]) for i in range(len(names))]

    def in_turn() -> list[torch.Tensor]:
        outputs = []
        for name, rows in groups:
            peft.set_adapter(name)
            part = {key: value[rows] for key, value in inputs.items()}
            outputs.append(peft(**part).last_hidden_state)
        return outputs

    candidates: dict[str, Callable[[], object]] = {
        "base": lambda: plain(**inputs).last_hidden_state,
        "stacked slots": lambda: base.adapted_features(inputs, chosen),
        "peft adapter_names": lambda: peft(**inputs, adapter_names=row_names),
        "peft set_adapter in turn": in_turn,
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
        for repeat in range(arguments.repeats + 2):
            for name, run in candidates.items():
                spent = seconds(run)
                if repeat >= 2:
                    times[name].append(spent)
    print(f"{ROWS} rows of {arguments.length} tokens, {len(names)} adapters, {arguments.precision}")
    for name, spent in times.items():
        ratios = np.array(spent) / np.array(times["base"])
        low, middle, high = np.percentile(ratios, [10, 50, 90])
        print(f"{name:26s} {np.median(spent) * 1000:7.1f} ms  {middle:.2f}x ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
