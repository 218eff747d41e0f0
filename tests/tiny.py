"""A tiny encoder, tiny tasks, and versions really taught from them, in about a second each."""

import json
import random
import shutil

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.update import run

FILLER = [
    "please",
    "could",
    "you",
    "tell",
    "me",
    "about",
    "the",
    "for",
    "my",
    "is",
    "there",
    "any",
    "way",
    "to",
    "with",
    "a",
    "today",
    "now",
]
MARKERS = {
    "balance": ["balance", "money", "account"],
    "transfer": ["transfer", "send", "wire"],
    "weather": ["weather", "rain", "sunny"],
    "alarm": ["alarm", "wake", "clock"],
    "recipe": ["recipe", "cook", "dinner"],
    "calories": ["calories", "diet", "sugar"],
    "positive": ["good", "great", "lovely"],
    "negative": ["bad", "awful", "poor"],
    "film": ["film", "actor", "scene"],
    "book": ["book", "chapter", "author"],
    "strange": ["quark", "lepton", "boson"],
}
TASKS = {
    "banking": ["balance", "transfer"],
    "home": ["weather", "alarm"],
    "kitchen": ["recipe", "calories"],
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_tiny_model(folder):
    """Write a two-layer encoder of width 32 with a word tokenizer; the same weights every time."""
    words = SPECIAL + FILLER + [word for markers in MARKERS.values() for word in markers]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def without_dropout(model, folder):
    """A copy of a saved encoder that drops nothing in training."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def texts_of(label, num_rows, seed=0):
    """Distinct short texts that hold one or two marker words of a label."""
    draw = random.Random(f"{label} {seed}")
    found = []
    while len(found) < num_rows:
        words = draw.sample(FILLER, draw.randint(3, 5))
        words[draw.randrange(len(words))] = draw.choice(MARKERS[label])
        words.append(draw.choice(MARKERS[label]))
        text = " ".join(words)
        if text not in found:
            found.append(text)
    return found


def write_task(folder, name, labels, num_rows=24):
    """Write the splits of a task and return its part of a spec."""
    folder.mkdir(parents=True, exist_ok=True)
    cuts = {"train": (0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1)}
    rows = {label: texts_of(label, num_rows, name) for label in labels}
    task = {"name": name}
    for split, (start, stop) in cuts.items():
        path = folder / f"{name}.{split}.jsonl"
        lines = [
            json.dumps({"text": text, "label": label})
            for label, texts in rows.items()
            for text in texts[int(start * num_rows) : int(stop * num_rows)]
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        task[split] = str(path)
    return task


def tiny_spec(model, data, lineage, tasks, methods, scenario="class_incremental", **sections):
    """A spec over tiny tasks, given as names of `TASKS` or as a mapping from name to labels."""
    wanted = tasks if isinstance(tasks, dict) else {name: TASKS[name] for name in tasks}
    training = {
        "num_epochs": 4,
        "learning_rate": 3e-3,
        "batch_size": 16,
        "max_length": 24,
        "precision": "fp32",
    }
    return UpdateSpec.model_validate(
        {
            "lineage": lineage,
            "model": {"name": str(model)},
            "scenario": scenario,
            "tasks": [write_task(data, name, labels) for name, labels in wanted.items()],
            "methods": methods,
            "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
            **sections,
            "training": training | sections.get("training", {}),
        }
    )


def teach(home, spec):
    """Run an update in this process, without MLflow, and return its result."""
    return run_update(spec, Home(home.resolve(), tracking_uri=None))


def run_update(*arguments, **options):
    """Run an update, and return its result as `ratchet run --json` prints it."""
    return run.run_update(*arguments, **options).to_json()
