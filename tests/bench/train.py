#!/usr/bin/env python3
"""Compares entromask-pretrain with a PyTorch loop that does the same work, in turns.

    pip install torch transformers pyarrow
    python tests/bench/train.py target/release/entromask-pretrain TOKENS MASKS [--shapes tiny mini base] [--turns N]
                                [--device cpu] [--torch-device cpu] [--dtype f32] [--compile] [--batch N] [--peak TFLOPS]

Both train a BERT with random weights on masked rows of the corpus: batches of rows padded to the longest, logits at the
masked positions only, AdamW without decay on norms and biases, gradients clipped at 1, no dropout, all threads. PyTorch has
its scaled dot-product attention, without a mask where all rows of a batch are as long, its fused AdamW, autocast with bf16,
TF32 for the products of f32 beside our backend for CUDA, which has it, and torch.compile on request beside itself without.
Both sides' time is that of the steps, ours by its own speed.jsonl, without the first, which lays memory out. On a GPU
kernels are chosen and compiled while the first steps run: there it is the second half of the steps. CPU seconds of ours
are those of the whole process less those of one that makes a single step. There are as many steps as the epochs of the
masks have full batches for, at most; PyTorch sees the first epoch again and again.
The ratio is to the faster of PyTorch's two. Utilisation is the share of --peak that the model's operations come to. Memory
is the peak of each process, and not that of a GPU. The last lines are the table.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import torch
from score import ATTENTION, SHAPES, allow_tf32, say_that_compile_fails, spent, stats, torch_device
from transformers import BertConfig, BertForMaskedLM

STEPS = {"tiny": 60, "mini": 20, "small": 8, "medium": 6, "base": 6}
STEPS_ON_GPU = {"tiny": 120, "mini": 120, "small": 80, "medium": 60, "base": 40}
COLUMNS = (
    "| shape | PyTorch tokens/s | compiled | ours tokens/s | **ratio** | of CPU seconds | utilisation: PyTorch, ours "
    "| PyTorch memory | ours |"
)


class Batch(NamedTuple):
    """Masked ids, what attention may see, if not all of it, flat masked positions, what stands there; and the real tokens."""

    seen: torch.Tensor
    mask: torch.Tensor | None
    flat: torch.Tensor
    labels: torch.Tensor
    tokens: int


def main() -> None:
    args = arguments()
    if args.first_use:
        print("; ".join(f"{shape} {first_use(args, shape):.0f} s" for shape in args.shapes))
        return
    allow_tf32(args.device)
    lines = [COLUMNS, "|---" * COLUMNS.count("| ") + "|"]
    print("\n".join(lines), flush=True)
    for shape in args.shapes:
        lines.append(compare(args, shape))
        print(lines[-1], flush=True)
    theirs = f"torch {torch.__version__} on {args.torch_device}, {torch.get_num_threads()} threads"
    print(f"{theirs}; ours on {args.device}; {args.dtype}, batches of {args.batch}, median of {args.turns} turns")
    print("\n".join(lines))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("pretrain")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "mini", "base"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of our side")
    parser.add_argument("--torch-device", help="of PyTorch's side (default: cpu, or cuda beside any GPU)")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of the matrix products")
    parser.add_argument("--compile", action="store_true", help="measure PyTorch with torch.compile too")
    parser.add_argument("--first-use", action="store_true", help="only run our side once, and say how long it took")
    parser.add_argument("--batch", type=int, help="rows of a batch (default: 32, on a GPU 256)")
    parser.add_argument("--rows", type=int, help="rows of the corpus at most, and so of a batch (default: all)")
    parser.add_argument("--steps", type=int, help="steps of a turn (default: by shape)")
    parser.add_argument("--peak", type=float, help="what the device can do, TFLOP/s")
    args = parser.parse_args()
    on_cpu = args.device.startswith("cpu")
    args.torch_device = args.torch_device or torch_device(args.device)
    args.batch = min(args.batch or (32 if on_cpu else 256), args.rows or 2**31)
    args.on_gpu = not on_cpu
    return args


def compare(args: argparse.Namespace, shape: str) -> str:
    batches = masked_batches(args, args.steps or (STEPS_ON_GPU if args.on_gpu else STEPS)[shape])
    if len(batches) < 2:
        raise SystemExit(f"there are too few masked rows for two batches of {args.batch}: take a smaller --batch, or more rows")
    theirs = [Torch(shape, args, compiled) for compiled in ([False, True] if args.compile else [False])]
    for side in theirs:
        # Allocates, and compiles where that is asked for: one with a mask and one without, if there are both.
        side.train(list({batch.mask is None: batch for batch in batches}.values()))
    turns = [([side.train(batches) for side in theirs], ours(args, shape, len(batches))) for _ in range(args.turns)]
    rates = [statistics.median(turn[0][side][0] for turn in turns) for side in range(len(theirs))]
    best = rates.index(max(rates))
    our_rate, our_busy, memory, work = (statistics.median(turn[1][column] for turn in turns) for column in range(4))
    busy = statistics.median(turn[0][best][1] for turn in turns)
    used = [f"{rate * work / args.peak / 1e10:.1f} %" if args.peak else "–" for rate in (rates[best], our_rate)]
    columns = [f"{rates[0]:,.0f}", f"{rates[1]:,.0f}" if rates[1:] and rates[1] else "–", f"{our_rate:,.0f}"]
    columns += [f"**{our_rate / rates[best]:.2f}**", f"{our_busy / busy:.2f}" if our_busy > 0 else "too noisy", ", ".join(used)]
    columns += [f"{amount:,.0f} MiB" for amount in (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, memory)]
    return f"| {shape} | " + " | ".join(columns) + " |"


def first_use(args: argparse.Namespace, shape: str) -> float:
    """Seconds of a first process, in which kernels are compiled and chosen, for two steps."""
    with tempfile.TemporaryDirectory() as folder:
        return run(args, shape, 2, Path(folder))[0]


def masked_batches(args: argparse.Namespace, steps: int) -> list[Batch]:
    """`steps` batches, or as many full ones as there are in the first part for each epoch; those of the first epoch come
    again and again."""
    tokens = pq.read_table(min(args.tokens.glob("part-*.parquet")), columns=["input_ids"])["input_ids"]
    masks = pq.read_table(min(args.masks.glob("*.parquet")), columns=["positions", "inputs"])
    size = args.batch
    count = min(steps, min(len(tokens), args.rows or len(tokens)) // size) * size
    columns = (tokens, masks["positions"], masks["inputs"])
    rows = list(zip(*(column.slice(0, count).to_pylist() for column in columns), strict=True))
    starts = range(0, count, size)
    epoch = [to(args.torch_device, batch(rows[start : start + size])) for start in starts]
    return (epoch * epochs(args.masks))[:steps]


def epochs(masks: Path) -> int:
    return json.loads((masks / "manifest.json").read_text())["config"].get("epochs", 1)


def to(device: str, batch: Batch) -> Batch:
    return Batch(*(part.to(device) if isinstance(part, torch.Tensor) else part for part in batch))


def batch(rows: list) -> Batch:
    """transformers takes a mask with four dimensions as it is, and so need not look, in each step, whether it hides anything,
    for which it would wait for the device."""
    lengths = [len(ids) for ids, _, _ in rows]
    longest = max(lengths)
    seen, real = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.bool)
    flat, labels = [], []
    for index, (ids, positions, inputs) in enumerate(rows):
        seen[index, : len(ids)], real[index, : len(ids)] = torch.tensor(ids), True
        seen[index, positions] = torch.tensor(inputs)
        flat += [index * longest + position for position in positions]
        labels += [ids[position] for position in positions]
    mask = None if min(lengths) == longest else real[:, None, None, :].expand(-1, -1, longest, -1).contiguous()
    return Batch(seen, mask, torch.tensor(flat), torch.tensor(labels), sum(lengths))


class Torch:
    def __init__(self, shape: str, args: argparse.Namespace, compiled: bool) -> None:
        self.device, self.on_gpu, self.bf16 = args.torch_device, args.on_gpu, args.dtype == "bf16"
        self.compiled, self.works = compiled, True
        layers, width = SHAPES[shape]
        torch.manual_seed(1)
        config = BertConfig(
            vocab_size=stats(args.tokens)["vocab_size"], num_hidden_layers=layers, hidden_size=width,
            num_attention_heads=width // 64, intermediate_size=4 * width,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation=ATTENTION,
        )
        self.model = BertForMaskedLM(config).train().to(self.device)
        decayed = [p for name, p in self.model.named_parameters() if p.dim() > 1]
        others = [p for name, p in self.model.named_parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.loss = self.plain_loss

    def plain_loss(self, seen, mask, flat, labels) -> torch.Tensor:
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
            states = self.model.bert(input_ids=seen, attention_mask=mask).last_hidden_state
            # Its gradient is added up without sorting positions, as that of an index in brackets is not on a GPU.
            hidden = states.flatten(0, 1).index_select(0, flat)
            return torch.nn.functional.cross_entropy(self.model.cls(hidden), labels)

    def train(self, batches: list) -> tuple[float, float]:
        """Tokens a second, and a second of all processors; none if torch.compile does not work."""
        if not self.works:
            return 0.0, 0.0
        try:
            return self.timed(batches)
        except Exception as error:
            if not self.compiled:
                raise
            say_that_compile_fails(error)
            self.works = False
            return 0.0, 0.0

    def timed(self, batches: list) -> tuple[float, float]:
        """On a GPU of the second half."""
        if self.compiled and self.loss == self.plain_loss:
            self.loss = torch.compile(self.plain_loss, dynamic=True)
        measured = batches[len(batches) // 2 :] if self.on_gpu else batches
        if self.on_gpu:
            self.steps(batches[: len(batches) - len(measured)])
        began, busy = time.perf_counter(), time.process_time()
        self.steps(measured)
        wall, busy = time.perf_counter() - began, time.process_time() - busy
        tokens = sum(batch.tokens for batch in measured)
        return tokens / wall, tokens / busy

    def steps(self, batches: list) -> None:
        for seen, mask, flat, labels, _ in batches:
            self.loss(seen, mask, flat, labels).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def ours(args: argparse.Namespace, shape: str, steps: int) -> tuple[float, float, float, float]:
    """Tokens a second, and a second of all processors; MiB; operations a token."""
    if args.torch_device.startswith("cuda"):
        torch.cuda.empty_cache()  # else PyTorch keeps what it had at most, and a large shape of ours may lack it
    with tempfile.TemporaryDirectory() as folder:
        first, all_steps = (run(args, shape, count, Path(folder)) for count in (1, steps))
        rows = [json.loads(line) for line in (Path(folder) / f"model-{steps}" / "speed.jsonl").read_text().splitlines()]
    busy, tokens = (more - less for more, less in zip(all_steps[1:3], first[1:3], strict=True))
    later = rows[len(rows) // 2 if args.on_gpu else 1 :]
    steady = sum(row["tokens_per_second"] * row["seconds"] for row in later) / sum(row["seconds"] for row in later)
    return steady, tokens / busy if busy > 0 else 0.0, *all_steps[3:]


def run(args: argparse.Namespace, shape: str, steps: int, folder: Path) -> tuple[float, float, float, float, float]:
    layers, width = SHAPES[shape]
    (folder / "student.toml").write_text(
        f"num_hidden_layers = {layers}\nhidden_size = {width}\nnum_attention_heads = {width // 64}\n"
        f"intermediate_size = {4 * width}\nhidden_dropout_prob = 0.0\nattention_probs_dropout_prob = 0.0\n"
    )
    (folder / "train.toml").write_text(
        f"batch_size = {args.batch}\nepochs = {epochs(args.masks)}\nlr = 1e-4\nbudget = {{ steps = {steps} }}\n"
        "validation = { rows = 1, every = 100000 }\nrun = { checkpoint_every = 100000, log_every = 1 }\n"
    )
    out = folder / f"model-{steps}"
    command = [args.pretrain, "--config", folder / "train.toml", "--student", folder / "student.toml"]
    command += ["--tokens", args.tokens, "--masks", args.masks, "--out", out, "--quiet"]
    command += ["--device", args.device, "--dtype", args.dtype]
    wall, busy = spent(*command)
    os.sync()  # else the model is still being written while the next process is timed
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    cost = json.loads((out / "manifest.json").read_text())["cost"]
    work = cost["flops"] / cost["tokens"]
    return wall, busy, max(row["tokens"] for row in rows if "tokens" in row), cost["peak_memory_bytes"] / 2**20, work


if __name__ == "__main__":
    main()
