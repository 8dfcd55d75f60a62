#!/usr/bin/env python3
"""Compares entromask-score with PyTorch doing the same work, in turns.

    pip install torch transformers pyarrow
    python tests/bench/score.py target/release/entromask-score TOKENS [--shapes mini base] [--rows N] [--turns N]
                                [--device cpu] [--torch-device cpu] [--dtype f32] [--compile] [--peak TFLOPS]

Both score the same rows of the tokens artifact with the same randomly initialised checkpoint by k-fold: every maskable
token is masked once, in one of k passes over its row. PyTorch is given what makes it fast: rows of equal length side by
side in the best of some batch sizes, scaled dot-product attention, the head at the masked positions only, inference
mode, all threads, bf16 on request, and with --compile torch.compile as well, of which the faster counts. Its time is that of
computing alone; ours is that of the whole process, which also starts, loads the model, reads, writes and hashes; the ratio for
the rows after the first one, which leaves that out, is given too. Beside the wall clock stands the time that the processors were busy, which says more
while other programs run. Operations a second and utilisation, their share of --peak, are those of the rows after the
first one. The last lines are the table.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertForMaskedLM

COLUMNS = (
    "| shape | tokens, all passes | PyTorch tokens/s | compiled | ours tokens/s | **ratio** | without start | of CPU seconds "
    "| ours GFLOP/s | peak memory |"
)
SHAPES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768)}
ROWS = {"tiny": 400, "mini": 200, "small": 100, "medium": 50, "base": 48}
MASK_ID = 103


@dataclass
class Cost:
    wall: float
    busy: float
    entropies: torch.Tensor


def main() -> None:
    args = arguments()
    lines = [COLUMNS, "|---" * COLUMNS.count("| ") + "|"]
    for shape in args.shapes:
        lines.append(compare(args, shape))
        print(lines[-1], flush=True)
    theirs = f"torch {torch.__version__} on {args.torch_device}, {torch.get_num_threads()} threads"
    print(f"{theirs}; ours on {args.device}; {args.dtype}, k = {args.folds}, median of {args.turns} turns")
    print("\n".join(lines))


def compare(args: argparse.Namespace, shape: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(shape, Path(folder) / "model")
        shutil.copy(args.tokens / "tokenizer.json", model)
        rows = read_rows(args.tokens, args.rows or ROWS[shape])
        passes = all_passes(rows, args.folds)
        tokens = sum(len(ids) for _, ids, _ in passes)
        later = sum(len(ids) for row, ids, _ in passes if row > 0)
        theirs = [Torch(model, args, compiled) for compiled in ([False, True] if args.compile else [False])]
        for side in theirs:
            side.choose_batch_size(passes)
        turns, starts = [], []
        for turn in range(args.turns):
            turns.append(([side.score(passes) for side in theirs], ours(args, Path(folder), len(rows), turn)))
            starts.append(ours(args, Path(folder), 1, -1 - turn).wall)
        cost = json.loads((Path(folder) / "entropy-0" / "manifest.json").read_text())["cost"]
    for sides, mine in turns[:1]:
        for side in sides:
            check(side, mine)
    walls = [statistics.median(sides[side].wall for sides, _ in turns) for side in range(len(theirs))]
    best = walls.index(min(walls))
    wall = (walls[best], statistics.median(mine.wall for _, mine in turns))
    busy = (statistics.median(sides[best].busy for sides, _ in turns), statistics.median(mine.busy for _, mine in turns))
    rate = [f"{tokens / seconds / 1000:.1f} k" for seconds in (*walls, wall[1])]
    rates = " | ".join(rate if args.compile else [rate[0], "–", rate[1]])
    steady = later / (wall[1] - statistics.median(starts))
    flops = cost["flops"] / tokens * steady / 1e9
    used = f" ({flops / args.peak / 10:.1f} %)" if args.peak else ""
    ratios = f"**{wall[0] / wall[1]:.2f}** | {steady * wall[0] / tokens:.2f} | {busy[0] / busy[1]:.2f}"
    memory = cost["peak_memory_bytes"] / 2**20
    return f"| {shape} | {tokens / 1000:.0f} k | {rates} | {ratios} | {flops:.0f}{used} | {memory:.0f} MiB |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("score")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["mini", "base"])
    parser.add_argument("--rows", type=int, help="rows of the corpus (default: by shape)")
    parser.add_argument("--folds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of our side")
    parser.add_argument("--torch-device", help="of PyTorch's side (default: cpu, or cuda beside any GPU)")
    parser.add_argument("--peak", type=float, help="what the device can do, TFLOP/s")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true", help="measure PyTorch with torch.compile too")
    args = parser.parse_args()
    args.torch_device = args.torch_device or ("cpu" if args.device == "cpu" else "cuda")
    return args


def checkpoint(shape: str, folder: Path) -> Path:
    layers, width = SHAPES[shape]
    torch.manual_seed(1)
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def read_rows(tokens: Path, count: int) -> list[tuple[list[int], list[int]]]:
    """Ids and maskable positions of the first rows."""
    rows = []
    for part in sorted(tokens.glob("part-*.parquet")):
        table = pq.read_table(part, columns=["input_ids", "word"]).slice(0, count - len(rows)).to_pylist()
        rows += [(row["input_ids"], [i for i, word in enumerate(row["word"]) if word is not None]) for row in table]
    return rows


def all_passes(rows: list[tuple[list[int], list[int]]], folds: int) -> list[tuple[int, list[int], list[int]]]:
    """Row, masked ids and positions of each pass. Which position is in which fold changes nothing of the work."""
    passes = []
    for row, (ids, maskable) in enumerate(rows):
        for fold in range(folds):
            positions = maskable[fold::folds]
            if positions:
                masked = list(ids)
                for position in positions:
                    masked[position] = MASK_ID
                passes.append((row, masked, positions))
    return sorted(passes, key=lambda item: len(item[1]))


class Torch:
    def __init__(self, model: Path, args: argparse.Namespace, compiled: bool) -> None:
        self.device = args.torch_device
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
        self.model = BertForMaskedLM.from_pretrained(model, attn_implementation="sdpa", dtype=self.dtype)
        self.model = self.model.eval().to(self.device)
        self.step = torch.compile(self.measure, dynamic=True) if compiled else self.measure
        self.batch_size = 0

    def choose_batch_size(self, passes: list) -> None:
        sizes = [8, 32, 128] if self.device == "cpu" else [128, 512]
        self.score(passes[-sizes[-1] :], sizes[0])  # the first call compiles or allocates
        rates = {size: self.score(passes[-sizes[-1] :], size).wall for size in sizes}
        self.batch_size = min(rates, key=rates.get)

    @torch.inference_mode()
    def score(self, passes: list, batch_size: int | None = None) -> Cost:
        began, busy = time.perf_counter(), time.process_time()
        entropies = []
        for batch in batches(passes, batch_size or self.batch_size):
            ids = torch.tensor([ids for _, ids, _ in batch])
            width = ids.shape[1]
            flat = torch.tensor([n * width + at for n, (_, _, positions) in enumerate(batch) for at in positions])
            entropies.append(self.step(ids.to(self.device), flat.to(self.device)))
        entropies = torch.cat([both.cpu() for both in entropies], dim=1)[0]
        return Cost(time.perf_counter() - began, time.process_time() - busy, entropies)

    def measure(self, ids: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        hidden = self.model.bert(input_ids=ids).last_hidden_state.flatten(0, 1)[flat]
        log_q = torch.log_softmax(self.model.cls(hidden).float(), -1)
        entropy = -(log_q.exp() * log_q).sum(-1)
        surprisal = -log_q.gather(-1, ids.flatten()[flat].unsqueeze(-1)).squeeze(-1)
        return torch.stack([entropy, surprisal])


def batches(passes: list, size: int):
    start = 0
    while start < len(passes):
        length = len(passes[start][1])
        end = start
        while end < len(passes) and end - start < size and len(passes[end][1]) == length:
            end += 1
        yield passes[start:end]
        start = end


def ours(args: argparse.Namespace, folder: Path, rows: int, turn: int) -> Cost:
    out = folder / f"entropy-{turn}"
    command = [args.score, "--tokens", args.tokens, "--model", folder / "model", "--out", out, "--quiet"]
    command += ["--device", args.device, "--dtype", args.dtype]
    command += ["--set", f"folds={args.folds}", "--set", f"rows={rows}"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    columns = [pq.read_table(part, columns=["entropy"]) for part in sorted(out.glob("part-*.parquet"))]
    values = [value for column in columns for row in column["entropy"].to_pylist() for value in row or [] if value is not None]
    return Cost(wall, busy, torch.tensor(values))


def check(one: Cost, other: Cost) -> None:
    """Both did the work: as many entropies, and nearly the same mean (which tokens share a pass differs)."""
    theirs, ours = one.entropies, other.entropies
    if len(theirs) != len(ours) or abs(theirs.mean() - ours.mean()) > 0.02:
        raise SystemExit(f"{len(theirs)} entropies, mean {theirs.mean()}, against {len(ours)}, mean {ours.mean()}")


if __name__ == "__main__":
    main()
