"""Continual pretraining on two texts: Shakespeare after WikiText, and back; perplexity of both.

    python -m tests.benchmarks.continual_pretraining FOLDER [--methods finetune,ewc] [--train 240]

A small Llama-shaped decoder learns the first text from random weights and is saved: that is the
base model of every method, because adapters need one that knows something. Every method then gets
a lineage of two tasks: the first text again for one epoch, so that it can keep what it keeps, and
the second text. All texts are cut to the same number of characters by position, before anything is
looked at: the training part stands first, test and validation after it; of WikiText, training and
validation come from `valid.txt` and test from `test.txt`. Rows come from `../shared/data/text`
beside the checkout. Each run is a process of its own; a run whose result lies in FOLDER is not run
again. Prints a table at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
TASKS = ("wikitext", "shakespeare")
MAX_LENGTH = 128
VOCABULARY = 1024
FULL_RATE, ADAPTER_RATE = 5e-4, 2e-3
"""Peak learning rates of what trains all weights, and of what trains small parts beside them."""

METHODS: dict[str, list[dict[str, Any]]] = {
    "finetune": [],
    "ewc": [{"type": "ewc"}],
    "ewc_10": [{"type": "ewc", "strength": 10.0}],
    "replay": [{"type": "replay", "capacity": 64}],
    "generative": [{"type": "generative"}],
    "lora_per_task": [{"type": "lora", "per_task": True}],
    "o_lora": [{"type": "o_lora"}],
    "l2_sp": [{"type": "l2_sp"}],
    "mixed_data": [{"type": "mixed_data"}],
}
"""A name that is not here is a method's type, with its defaults."""


def splits(size: int) -> dict[str, dict[str, str]]:
    """The parts of both texts: `size` thousand characters to train, a quarter of it to test."""
    train, other = size * 1000, size * 250
    shakespeare = (TEXTS / "shakespeare.txt").read_text(encoding="utf-8")
    wikitext = (TEXTS / "wikitext2" / "valid.txt").read_text(encoding="utf-8")
    unseen = (TEXTS / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    stop = train + other
    return {
        "shakespeare": {
            "train": shakespeare[:train],
            "test": shakespeare[train:stop],
            "validation": shakespeare[stop : stop + other // 4],
        },
        "wikitext": {
            "train": wikitext[:train],
            "test": unseen[:other],
            "validation": wikitext[train : train + other // 4],
        },
    }


def write_texts(folder: Path, size: int) -> dict[str, dict[str, str]]:
    """Write the parts and say where they lie."""
    found: dict[str, dict[str, str]] = {}
    for name, parts in splits(size).items():
        for split, text in parts.items():
            path = folder / "texts" / f"{name}.{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            found.setdefault(name, {})[split] = str(path)
    return found


def save_random_decoder(folder: Path, files: list[str]) -> None:
    """A decoder of about a million weights with a tokenizer trained on both training texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train(files, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=MAX_LENGTH
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def taught(
    folder: Path,
    model: Path,
    tasks: list[tuple[str, dict[str, str]]],
    methods: list[dict[str, Any]],
    training: dict[str, Any],
) -> dict[str, Any]:
    """One update of a fresh lineage: the scores after each stage, and its seconds."""
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.spec.reading import parse_spec
    from ratchet.pipelines.training.events import RunEvent, StageDone
    from tests.tiny import run_update

    stages: list[dict[str, Any]] = []

    def on_event(event: RunEvent) -> None:
        if isinstance(event, StageDone):
            stages.append(event.scores)

    spec = parse_spec(
        {
            "lineage": "texts",
            "model": {"name": str(model), "kind": "causal_lm"},
            "scenario": "task_incremental",
            "tasks": [{"name": name, **parts} for name, parts in tasks],
            "methods": methods,
            "training": {"max_length": MAX_LENGTH, "batch_size": 16, "precision": "fp32"}
            | training,
            "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        },
        Path.cwd(),
    )
    started, used = time.perf_counter(), time.process_time()
    result = run_update(spec, Home(folder.resolve(), None), on_event)
    return {
        "perplexity": [
            {task: scores["test_perplexity"] for task, scores in stage.items()} for stage in stages
        ],
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - used, 1),
        "version": result["version"],
    }


def make_base(folder: Path, first: str, texts: dict[str, dict[str, str]], epochs: int) -> None:
    """The decoder that learned the first text, as a local model folder."""
    from ratchet.pipelines.models.load import load_model
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.spec.update_spec import ModelSpec
    from ratchet.pipelines.version import read_weights

    start = folder / "random"
    training = {"num_epochs": epochs, "learning_rate": 2e-3}
    home = folder / f"learning_{first}"
    found = taught(home, start, [(first, texts[first])], [], training)
    model = load_model(ModelSpec(name=str(start), kind="causal_lm"))
    read_weights(Home(home.resolve(), None).registry.path("texts", found["version"]), model)
    model.backbone.save_pretrained(folder / f"base_{first}")
    model.tokenizer.save_pretrained(folder / f"base_{first}")
    save_result(folder, f"base-{first}", found)


def run_method(
    folder: Path, first: str, name: str, texts: dict[str, dict[str, str]], epochs: int
) -> None:
    """The first text again, then the second, with one method."""
    second = next(task for task in TASKS if task != first)
    methods = METHODS.get(name, [{"type": name}])
    if name == "mixed_data":
        methods = [{**methods[0], "sources": [texts[first]["train"]]}]
    small = any(method["type"] in ("lora", "o_lora", "adapter") for method in methods)
    rate = ADAPTER_RATE if small else FULL_RATE
    home, base = folder / f"{name}-{first}", folder / f"base_{first}"
    found = taught_in_turn(home, base, [first, second], texts, methods, rate, epochs)
    save_result(folder, f"{name}-{first}", found)


def taught_in_turn(
    home: Path,
    base: Path,
    order: list[str],
    texts: dict[str, dict[str, str]],
    methods: list[dict[str, Any]],
    rate: float,
    epochs: int,
) -> dict[str, Any]:
    """Two updates of one lineage: one epoch of the first text, then `epochs` of the second."""
    parts = [
        taught(
            home,
            base,
            [(task, texts[task])],
            methods,
            {"num_epochs": 1 if place == 0 else epochs, "learning_rate": rate},
        )
        for place, task in enumerate(order)
    ]
    return {
        "perplexity": [stage for part in parts for stage in part["perplexity"]],
        "seconds": sum(part["seconds"] for part in parts),
        "processor_seconds": sum(part["processor_seconds"] for part in parts),
    }


def save_result(folder: Path, name: str, found: dict[str, Any]) -> None:
    path = folder / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(name, json.dumps(found), flush=True)


def in_a_process(folder: Path, name: str, function: Any, *arguments: Any) -> None:
    """Call a function in a process of its own, unless its result is there."""
    if (folder / "results" / f"{name}.json").is_file():
        return
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{name} ended with {process.exitcode}")


def table(folder: Path, methods: list[str]) -> str:
    """Test perplexity of both texts, for both orders."""
    lines = [
        "| method | first after it | first at the end | second at the end | processor seconds |",
        "|---|---|---|---|---|",
    ]
    for first in TASKS:
        second = next(task for task in TASKS if task != first)
        lines.append(f"| **{first}, then {second}** | | | | |")
        for name in methods:
            path = folder / "results" / f"{name}-{first}.json"
            if path.is_file():
                found = json.loads(path.read_text(encoding="utf-8"))
                before, after = found["perplexity"]
                cells = [before[first], after[first], after[second]]
                shown = " | ".join(f"{value:.1f}" for value in cells)
                lines.append(f"| `{name}` | {shown} | {found['processor_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--train", type=int, default=240, help="thousand characters of each text")
    parser.add_argument("--base-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    folder, methods = arguments.folder.resolve(), arguments.methods.split(",")
    texts = write_texts(folder, arguments.train)
    import ratchet.pipelines.update.run  # noqa: F401 - once for all processes

    random = folder / "random"
    if not random.is_dir():
        save_random_decoder(random, [texts[task]["train"] for task in TASKS])
    for first in TASKS:
        base = (folder, first, texts, arguments.base_epochs)
        in_a_process(folder, f"base-{first}", make_base, *base)
    for name in methods:
        for first in TASKS:
            one = (folder, first, name, texts, arguments.epochs)
            in_a_process(folder, f"{name}-{first}", run_method, *one)
    print(table(folder, methods))


if __name__ == "__main__":
    main()
