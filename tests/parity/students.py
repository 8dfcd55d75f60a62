#!/usr/bin/env python3
"""Trains the smallest student of each family for a few steps and compares it with transformers.

    pip install torch transformers safetensors
    python tests/parity/students.py target/release data/tokens/sample [WORK]

Each model folder has to load without missing or unexpected tensors, as the class that its config.json names, and to
give the same logits; its tokenizer has to fill a mask. WORK, a folder for what is made, is a temporary one by default.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIPELINES = HERE.parent.parent / "pipelines"
STUDENTS = ["tiny", "pre-ln-tiny", "roberta-tiny", "distilbert-tiny", "albert-tiny", "modernbert-tiny"]
STEPS = 3


def main(binaries: Path, tokens: Path, work: Path) -> int:
    masks = work / "masks"
    run(binaries / "entromask-select", "-q", "--config", PIPELINES / "mask/random.toml", "--tokens", tokens, "--out", masks)
    for student in STUDENTS:
        model, logits = work / student, work / f"{student}.safetensors"
        run(binaries / "entromask-pretrain", "-q", "--config", PIPELINES / "train/mlm.toml", "--student",
            PIPELINES / f"student/{student}.toml", "--tokens", tokens, "--masks", masks, "--out", model,
            "--set", f"budget={{steps={STEPS}}}", "--set", "batch_size=4", "--set", "validation.rows=4")
        run(binaries / "entromask-score", "logits", "-q", "--tokens", tokens, "--model", model, "--rows", "4", "--out", logits)
        run(sys.executable, HERE / "masked_lm.py", model, logits)
        run(sys.executable, HERE / "fill_mask.py", model)
    print(f"{len(STUDENTS)} families agree with transformers")
    return 0


def run(*command) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        place = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(folder)
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), place))
