#!/usr/bin/env python3
"""Compares entromask-pretrain with a PyTorch loop that does the same work, in turns.

    pip install torch transformers pyarrow
    python tests/bench/train.py target/release/entromask-pretrain TOKENS MASKS [--shapes tiny mini base] [--turns N]

Both train a BERT with random weights on masked rows of the corpus: batches of 32 rows padded to the longest, logits at the
masked positions only, AdamW without decay on norms and biases, gradients clipped at 1, no dropout, all threads. PyTorch has
its scaled dot-product attention and its fused AdamW, and torch.compile on request; its time is that of the steps alone.
Ours is that of the whole process less that of a process that makes one step. Memory is the peak of each process. The last
lines are the table.
"""

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from score import SHAPES
from transformers import BertConfig, BertForMaskedLM

STEPS = {"tiny": 60, "mini": 20, "small": 8, "medium": 6, "base": 3}
BATCH = 32
COLUMNS = "| shape | PyTorch tokens/s | ours tokens/s | **ratio** | of CPU seconds | PyTorch memory | ours |"


def main() -> None:
    args = arguments()
    lines = [COLUMNS, "|---" * COLUMNS.count("| ") + "|"]
    for shape in args.shapes:
        lines.append(compare(args, shape))
        print(lines[-1], flush=True)
    compiled = ", compiled" if args.compile else ""
    print(f"torch {torch.__version__}{compiled}, {torch.get_num_threads()} threads, f32, batches of {BATCH}, median of {args.turns} turns")
    print("\n".join(lines))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("pretrain")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "mini", "base"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile PyTorch's side")
    return parser.parse_args()


def compare(args: argparse.Namespace, shape: str) -> str:
    steps = STEPS[shape]
    theirs = Torch(shape, args)
    batches = masked_batches(args, steps)
    theirs.train(batches[:1])  # allocates, and compiles where that is asked for
    turns = [(theirs.train(batches), ours(args, shape, steps)) for _ in range(args.turns)]
    rates = [statistics.median(turn[side][0] for turn in turns) for side in (0, 1)]
    busy = [statistics.median(turn[side][1] for turn in turns) for side in (0, 1)]
    memory = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, max(ours[2] for _, ours in turns)]
    columns = [f"{rate:,.0f}" for rate in rates] + [f"**{rates[1] / rates[0]:.2f}**", f"{busy[1] / busy[0]:.2f}"]
    columns += [f"{amount:,.0f} MiB" for amount in memory]
    return f"| {shape} | " + " | ".join(columns) + " |"


def masked_batches(args: argparse.Namespace, steps: int) -> list[tuple[torch.Tensor, ...]]:
    """Masked ids and attention mask, flat masked positions, and what stands there, of each batch."""
    tokens = pq.read_table(next(args.tokens.glob("part-*.parquet")), columns=["input_ids"])["input_ids"]
    masks = pq.read_table(sorted(args.masks.glob("*.parquet"))[0], columns=["positions", "inputs"]).slice(0, steps * BATCH)
    rows = list(zip(tokens.slice(0, steps * BATCH).to_pylist(), masks["positions"].to_pylist(), masks["inputs"].to_pylist(), strict=True))
    return [batch(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


def batch(rows: list) -> tuple[torch.Tensor, ...]:
    longest = max(len(ids) for ids, _, _ in rows)
    seen, real = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    flat, labels = [], []
    for index, (ids, positions, inputs) in enumerate(rows):
        seen[index, : len(ids)], real[index, : len(ids)] = torch.tensor(ids), 1
        seen[index, positions] = torch.tensor(inputs)
        flat += [index * longest + position for position in positions]
        labels += [ids[position] for position in positions]
    return seen, real, torch.tensor(flat), torch.tensor(labels)


class Torch:
    def __init__(self, shape: str, args: argparse.Namespace) -> None:
        layers, width = SHAPES[shape]
        torch.manual_seed(1)
        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="sdpa",
        )
        self.model = BertForMaskedLM(config).train()
        decayed = [p for name, p in self.model.named_parameters() if p.dim() > 1]
        others = [p for name, p in self.model.named_parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.loss = torch.compile(self.plain_loss, dynamic=True) if args.compile else self.plain_loss

    def plain_loss(self, seen, real, flat, labels) -> torch.Tensor:
        hidden = self.model.bert(input_ids=seen, attention_mask=real).last_hidden_state.flatten(0, 1)[flat]
        return torch.nn.functional.cross_entropy(self.model.cls(hidden), labels)

    def train(self, batches: list) -> tuple[float, float]:
        """Tokens a second, and a second of all processors."""
        began, busy = time.perf_counter(), time.process_time()
        tokens = 0
        for seen, real, flat, labels in batches:
            self.loss(seen, real, flat, labels).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            tokens += int(real.sum())
        return tokens / (time.perf_counter() - began), tokens / (time.process_time() - busy)


def ours(args: argparse.Namespace, shape: str, steps: int) -> tuple[float, float, float]:
    """Tokens a second, a second of all processors, and MiB."""
    with tempfile.TemporaryDirectory() as folder:
        first, all_steps = (run(args, shape, count, Path(folder)) for count in (1, steps))
    wall, busy, tokens = (more - less for more, less in zip(all_steps[:3], first[:3], strict=True))
    return tokens / wall, tokens / busy, all_steps[3]


def run(args: argparse.Namespace, shape: str, steps: int, folder: Path) -> tuple[float, float, float, float]:
    layers, width = SHAPES[shape]
    (folder / "student.toml").write_text(
        f"num_hidden_layers = {layers}\nhidden_size = {width}\nnum_attention_heads = {width // 64}\n"
        f"intermediate_size = {4 * width}\nhidden_dropout_prob = 0.0\nattention_probs_dropout_prob = 0.0\n"
    )
    (folder / "train.toml").write_text(
        f"batch_size = {BATCH}\nlr = 1e-4\nbudget = {{ steps = {steps} }}\nvalidation = {{ rows = 1, every = 100000 }}\n"
        "run = { checkpoint_every = 100000, log_every = 1 }\n"
    )
    out = folder / f"model-{steps}"
    command = [args.pretrain, "--config", folder / "train.toml", "--student", folder / "student.toml"]
    command += ["--tokens", args.tokens, "--masks", args.masks, "--out", out, "--quiet"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    memory = json.loads((out / "manifest.json").read_text())["cost"]["peak_memory_bytes"] / 2**20
    return wall, busy, max(row["tokens"] for row in rows if "tokens" in row), memory


if __name__ == "__main__":
    main()
