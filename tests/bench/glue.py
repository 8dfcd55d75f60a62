#!/usr/bin/env python3
"""Measures fine-tuning against a PyTorch loop, in turns: tokens of training and scoring a second, median and ratio.

    pip install torch transformers
    python tests/bench/glue.py target/release/entromask-glue --threads 2

Both fine-tune a BERT with random weights on the sample of QNLI for one epoch and score its dev split: the same shape,
rows, batch size, dropout and optimizer, batches of similar length padded to their longest row. Loading and tokenizing are
not measured. PyTorch has its fused attention and its fused AdamW.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data/sample/glue"
SHAPES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512)}
BATCH, EVAL_BATCH, POOL, LONGEST = 16, 64, 32, 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("glue", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, default="mini")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", *SHAPES[args.shape])
        rows = {split: encoded(DATA / f"QNLI/{split}.tsv", model) for split in ("train", "dev")}
        tokens = sum(len(row["input_ids"]) for split in rows.values() for row in split)
        found = {"entromask": [], "PyTorch": []}
        for turn in range(args.turns):
            found["entromask"].append(tokens / ours(args, model, Path(folder) / "out", tokens))
            found["PyTorch"].append(tokens / theirs(model, rows))
            print(f"turn {turn + 1}: " + ", ".join(f"{name} {speeds[-1]:,.0f} tokens/s" for name, speeds in found.items()), flush=True)
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    print(f"{args.shape}, {args.threads} threads, {tokens:,} tokens: "
          + ", ".join(f"{name} {median:,.0f} tokens/s" for name, median in medians.items())
          + f"; ratio of the medians {medians['entromask'] / medians['PyTorch']:.2f}")


def make_model(folder: Path, layers: int, width: int) -> Path:
    config = BertConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64,
                        intermediate_size=4 * width)
    BertForMaskedLM(config).save_pretrained(folder)
    for file in (ROOT / "data/tokenizers/bert-base-uncased").iterdir():
        shutil.copy(file, folder)
    return folder


def ours(args: argparse.Namespace, model: Path, out: Path, tokens: int) -> float:
    """Seconds of training and scoring, as the log says."""
    shutil.rmtree(out, ignore_errors=True)
    settings = [f"data={DATA}", "tasks=['QNLI']", "seeds=1", "recipe.epochs=1", f"recipe.batch_size={BATCH}",
                f"recipe.max_length={LONGEST}", f"run.eval_batch_size={EVAL_BATCH}"]
    command = [args.glue, "--model", model, "--out", out, "--threads", str(args.threads)]
    done = subprocess.run([*command, *(flag for setting in settings for flag in ("--set", setting))], check=True,
                          text=True, capture_output=True)
    result = json.loads(next(out.glob("QNLI-*.json")).read_text())
    assert result["tokens"] == tokens, "both read the same tokens"
    return float(re.search(r"QNLI seed 1: .*, ([0-9.]+) s", done.stderr)[1])


def theirs(model: Path, rows: dict) -> float:
    network = BertForSequenceClassification.from_pretrained(model, num_labels=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-5, weight_decay=0.01, fused=True)
    started = time.perf_counter()
    network.train()
    for batch in train_batches(rows["train"]):
        network(**padded(batch)).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    with torch.inference_mode():
        ordered = sorted(rows["dev"], key=lambda row: len(row["input_ids"]))
        for at in range(0, len(ordered), EVAL_BATCH):
            network(**padded(ordered[at:at + EVAL_BATCH])).logits.argmax(-1)
    return time.perf_counter() - started


def train_batches(rows: list) -> list:
    """As entromask makes them: sorted by length within pools of random rows, then in random order."""
    order = [rows[at] for at in torch.randperm(len(rows))]
    batches = []
    for start in range(0, len(order), POOL * BATCH):
        pool = sorted(order[start:start + POOL * BATCH], key=lambda row: len(row["input_ids"]))
        batches += [pool[at:at + BATCH] for at in range(0, len(pool), BATCH)]
    return [batches[at] for at in torch.randperm(len(batches))]


def padded(batch: list) -> dict:
    longest = max(len(row["input_ids"]) for row in batch)
    pad = lambda values, value: values + [value] * (longest - len(values))
    fields = ("input_ids", "token_type_ids", "attention_mask")
    tensors = {field: torch.tensor([pad(row[field], 0) for row in batch]) for field in fields}
    return tensors | {"labels": torch.tensor([row["label"] for row in batch])}


def encoded(file: Path, model: Path) -> list:
    header, *lines = [line.split("\t") for line in file.read_text().rstrip("\n").split("\n")]
    column = lambda name: [line[header.index(name)].strip() for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = tokenizer(column("question"), column("sentence"), truncation=True, max_length=LONGEST)
    labels = [["entailment", "not_entailment"].index(label) for label in column("label")]
    return [{field: rows[field][at] for field in rows} | {"label": label} for at, label in enumerate(labels)]


if __name__ == "__main__":
    main()
