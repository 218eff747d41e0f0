"""A tiny Llama-shaped decoder with a tokenizer trained here, and tiny tasks to continue."""

import json
import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ratchet.pipelines.spec.update_spec import UpdateSpec
from tests.tiny import FILLER, MARKERS, TASKS, texts_of

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tiny_decoder(folder, tied=False, template=True, bos=True):
    """Write a two-layer decoder of width 32 with a byte-level tokenizer; always the same weights.

    Args:
        folder: Where it goes.
        tied: Whether embedding and output layer are one tensor.
        template: Whether the tokenizer has a chat template.
        bos: Whether the tokenizer starts texts with a token of its own.
    """
    tokenizer = trained_tokenizer(template, bos)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def trained_tokenizer(template=True, bos=True):
    """A byte-level tokenizer whose vocabulary is trained on the words of the tiny tasks."""
    words = [*FILLER, *(word for markers in MARKERS.values() for word in markers), *MARKERS]
    draw = random.Random(0)
    corpus = [" ".join(draw.sample(words, 12)) for _ in range(200)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if bos:
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=64,
    )
    if template:
        fast.chat_template = TEMPLATE
    return fast


def write_rows(path, rows):
    """Write JSON Lines and return their path as a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return str(path)


def write_closed_task(folder, name, labels, num_rows=24):
    """Write a task whose completions are a few words, and return its part of a spec."""
    cuts = {"train": (0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1)}
    texts = {label: texts_of(label, num_rows, name) for label in labels}
    task = {"name": name}
    for split, (start, stop) in cuts.items():
        rows = [
            {"prompt": f"{text} =", "completion": f" {label}"}
            for label, found in texts.items()
            for text in found[int(start * num_rows) : int(stop * num_rows)]
        ]
        task[split] = write_rows(folder / f"{name}.{split}.jsonl", rows)
    return task


def write_open_task(folder, name, place, num_rows=24):
    """Write a task whose completion is a word of the prompt, and return its part of a spec."""
    draw = random.Random(name)
    task = {"name": name}
    for split, count in {"train": num_rows, "validation": 8, "test": 8}.items():
        rows = []
        for _ in range(count):
            words = draw.sample(FILLER, 4)
            rows.append({"prompt": " ".join(words) + " >", "completion": f" {words[place]} ok"})
        task[split] = write_rows(folder / f"{name}.{split}.jsonl", rows)
    return task


def write_text_task(folder, name, num_lines=60):
    """Write raw text, sentence after sentence, and return its part of a spec."""
    draw = random.Random(name)
    folder.mkdir(parents=True, exist_ok=True)
    task = {"name": name}
    for split, count in {"train": num_lines, "validation": 15, "test": 15}.items():
        lines = [" ".join(draw.sample(FILLER, 8)) + " ." for _ in range(count)]
        path = folder / f"{name}.{split}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        task[split] = str(path)
    return task


def tiny_lm_spec(model, data, lineage, tasks, methods, scenario="class_incremental", **sections):
    """A spec over tiny tasks: names of `TASKS`, or parts of a spec as the writers return them."""
    wanted = [
        task if isinstance(task, dict) else write_closed_task(data, task, TASKS[task])
        for task in tasks
    ]
    training = {
        "num_epochs": 4,
        "learning_rate": 3e-3,
        "batch_size": 16,
        "max_length": 32,
        "precision": "fp32",
    }
    return UpdateSpec.model_validate(
        {
            "lineage": lineage,
            "model": {"name": str(model), "kind": "causal_lm"},
            "scenario": scenario,
            "tasks": wanted,
            "methods": methods,
            "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
            **sections,
            "training": training | sections.get("training", {}),
        }
    )
