"""Write a copy of a base model with random weights, to compare it with the pretrained one.

python configs/studies/random_start.py FOLDER [--model minilm] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from ratchet.pipelines.models.source import model_location


def write(folder: Path, name: str, seed: int) -> None:
    """Save the architecture and the tokenizer of a model with freshly drawn weights."""
    location = model_location(name)
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.from_pretrained(location)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(location).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.model, given.seed)
    print(given.folder)
