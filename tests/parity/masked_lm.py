#!/usr/bin/env python3
"""Loads a model folder of the pipeline in transformers and compares logits.

    pip install torch transformers safetensors
    entromask-score logits --model MODEL --tokens TOKENS --rows 4 --out logits.safetensors
    python tests/parity/masked_lm.py MODEL logits.safetensors

Fails when a tensor is missing or unexpected, or when a logit at a real token differs by 1e-4 or more.
Without the second argument only the loading is checked. A folder whose architecture is a sequence classifier is loaded
as one (no logits then).
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

TOLERANCE = 1e-4


def main(model_dir: Path, logits_file: Path | None) -> int:
    model = load(model_dir)
    if logits_file is None:
        return 0
    theirs, ours, real = compared(model, load_file(logits_file))
    difference = (theirs - ours)[real].abs().max().item()
    print(f"logits: max abs difference {difference:.2e} over {int(real.sum())} tokens, {ours.shape[-1]} logits each")
    return int(not difference < TOLERANCE)


def load(model_dir: Path) -> torch.nn.Module:
    architecture = json.loads((model_dir / "config.json").read_text())["architectures"][0]
    classifier = architecture.endswith("ForSequenceClassification")
    auto = AutoModelForSequenceClassification if classifier else AutoModelForMaskedLM
    model, info = auto.from_pretrained(model_dir, output_loading_info=True)
    problems = {key: sorted(map(str, found)) for key, found in info.items() if found}
    print(f"{model_dir}: {type(model).__name__}, {problems or 'no missing or unexpected tensors'}")
    if problems or type(model).__name__ != architecture:
        raise SystemExit(1)
    return model.eval()


@torch.no_grad()
def compared(model: torch.nn.Module, file: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    ids, mask = file["input_ids"].long(), file["attention_mask"].long()
    return model(input_ids=ids, attention_mask=mask).logits, file["logits"], mask.bool()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
