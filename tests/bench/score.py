#!/usr/bin/env python3
"""Compares entromask-score with PyTorch doing the same work, in turns.

    pip install torch transformers pyarrow
    python tests/bench/score.py target/release/entromask-score TOKENS [--shapes mini base] [--rows N] [--turns N]
                                [--device cpu] [--torch-device cpu] [--dtype f32] [--compile] [--onednn] [--peak TFLOPS]

Both score the same rows of the tokens artifact with the same randomly initialised checkpoint by k-fold: every maskable
token is masked once, in one of k passes over its row. PyTorch is given what makes it fast: rows of equal length side by
side in the best of some batch sizes, scaled dot-product attention, the head at the masked positions only, inference
mode, all threads, bf16 on request, and with --compile torch.compile as well, of which the faster counts. With --onednn
it is measured a third time on the CPU, its dense layers taken to oneDNN beforehand (torch.utils.mkldnn): that is not
what PyTorch does with a model by itself, but faster where MKL does not use the processor's widest vectors. On a GPU it
finds its batches there, multiplies f32 in TF32 if ours is CUDA, which does so, and may fill rows up to others in a batch, if
that is faster than more batches. Its time is that of computing alone.

Ours is that of a process, which also starts, loads the model, reads, writes and hashes. Each turn has two: with all rows,
and with the first ones only. On the CPU these are one row, and the ratio is that of the whole process; that without the
start, for the rows behind the first, is given beside it. On a GPU starting, and choosing and compiling kernels, takes
longer than computing. There the first rows are the share that first_share() chooses, both processes run once before
they count, as kernels that were chosen are kept, and the ratio is for the rows behind the first ones: the difference of
the times over that of the tokens. Where it is not positive, or not nearly the same in all turns, "too noisy" stands in
its place, and where it is small beside that of the first rows. The ratio of the whole process is given beside it.

Beside the wall clock stands the time that the processors were busy, which says more while other programs run. Operations
a second and utilisation, their share of --peak, are those of the rows behind the first ones. Fewer rows than asked for
are measured where there are not more; the table has the tokens. The last lines are the table.
"""

import argparse
import itertools
import json
import math
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import AttentionInterface, BertConfig, BertForMaskedLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SHAPES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768)}
ROWS = {"tiny": 400, "mini": 200, "small": 100, "medium": 50, "base": 48}
# Rows of 128 tokens are 0.9 k tokens in all passes, and an H200 may do 5 M tokens/s of mini and 2 M of base in bf16.
ROWS_ON_GPU = {"tiny": 20_000, "mini": 16_000, "small": 8_000, "medium": 6_000, "base": 4_000}
BATCH_SIZES, BATCH_SIZES_ON_GPU = [8, 32, 128], [128, 256, 512]
# Rows whose lengths differ by less than this, in tokens, may share a batch.
ALIKE_ON_GPU = [1, 32]
# Of the time of the first rows, what that of the others has to be on a GPU at least.
LEAST_SHARE = 0.2
# Standard deviation of the logits. Those of a BERT that was just initialised differ by so little that all its entropies
# are the same to a thousandth; with this they go from about 0.3 to 4.3 nats, and those of a wrong result show.
LOGITS = 5.0
# Ways of PyTorch: as it is, through torch.compile, and with dense layers of oneDNN.
PLAIN, COMPILED, ONEDNN = WAYS = ["plain", "compiled", "onednn"]
# How far quantiles of entropies may differ, nats: which tokens share a pass differs, and bf16 rounds. Found were 0.01, and
# 0.02 with bf16; 0.36 with another mask token.
QUANTILES = 0.15
# Scaled dot-product attention that has a mask only where one with four dimensions is passed. By the name "sdpa" some
# versions of transformers make one in compiled models even if all tokens are real, which PyTorch's fastest kernels refuse.
ATTENTION = "sdpa_as_masked"
AttentionInterface.register(ATTENTION, sdpa_attention_forward)


@dataclass
class Cost:
    wall: float
    busy: float
    entropies: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    # Of our manifest: operations, peak memory.
    flops: float = 0.0
    memory: float = 0.0


# What cannot be measured takes forever, and so never counts as the faster.
NEVER = Cost(math.inf, math.inf)


# Masked ids, the mask of attention where rows are filled up, and the flat positions to score.
Work = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]


@dataclass
class Turn:
    theirs: list[Cost]
    ours: Cost
    # Ours of the first rows only.
    first: Cost


def main() -> None:
    args = arguments()
    if args.first_use:
        print("; ".join(f"{shape} {first_use(args, shape):.0f} s" for shape in args.shapes))
        return
    allow_tf32(args.device)
    lines = [columns(args), "|---" * columns(args).count("| ") + "|"]
    print("\n".join(lines), flush=True)
    for shape in args.shapes:
        lines.append(compare(args, shape))
        print(lines[-1], flush=True)
    theirs = f"torch {torch.__version__} on {args.torch_device}, {torch.get_num_threads()} threads"
    fewer = "".join(f"; {rows} of the {wanted} rows wanted for {shape}" for shape, rows, wanted in args.fewer)
    print(f"{theirs}; ours on {args.device}; {args.dtype}, k = {args.folds}, median of {args.turns} turns{fewer}")
    print("\n".join(lines))


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
    parser.add_argument("--onednn", action="store_true", help="measure PyTorch with dense layers of oneDNN too")
    parser.add_argument("--first-use", action="store_true", help="only run our side once, and say how long it took")
    args = parser.parse_args()
    args.on_gpu = not args.device.startswith("cpu")
    args.torch_device = args.torch_device or torch_device(args.device)
    # Shapes for which the corpus is too small.
    args.fewer = []
    args.ways = [PLAIN, *([COMPILED] if args.compile else []), *([ONEDNN] if args.onednn else [])]
    if args.onednn and (args.torch_device, args.dtype) != ("cpu", "f32"):
        parser.error("--onednn is for f32 on the CPU")
    return args


def torch_device(ours: str) -> str:
    """The same GPU where it is named for CUDA."""
    return ours if ours.startswith(("cpu", "cuda")) else "cuda"


def allow_tf32(device: str) -> None:
    """Our f32 products on CUDA are TF32 where the GPU has it, so PyTorch's may be, too; not so those of our other backends."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")


def columns(args: argparse.Namespace) -> str:
    ratios = "**ratio** | with start" if args.on_gpu else "**ratio** | without start"
    before = "| shape | tokens, all passes | PyTorch tokens/s | compiled | oneDNN | ours tokens/s"
    return f"{before} | {ratios} | of CPU seconds | ours GFLOP/s | peak memory |"


def compare(args: argparse.Namespace, shape: str) -> str:
    wanted = args.rows or (ROWS_ON_GPU if args.on_gpu else ROWS)[shape]
    rows = read_rows(args.tokens, wanted)
    args.fewer += [(shape, len(rows), wanted)] if len(rows) < wanted else []
    passes = all_passes(rows, args.folds, stats(args.tokens)["special"]["mask"])
    first = first_share(rows) if args.on_gpu else 1
    turns = measure(args, shape, passes, len(rows), first)
    for side in turns[0].theirs:
        if side is not NEVER:
            check(side, turns[0].ours)
    later = sum(len(ids) for row, ids, _ in passes if row >= first)
    return line(args, shape, sum(len(ids) for _, ids, _ in passes), later, turns)


def first_use(args: argparse.Namespace, shape: str) -> float:
    """Seconds of a first process, in which kernels are compiled and chosen, for few rows."""
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(shape, Path(folder) / "model", stats(args.tokens)["vocab_size"])
        shutil.copy(args.tokens / "tokenizer.json", model)
        return ours(args, Path(folder), 64).wall


def first_share(rows: list[tuple[list[int], list[int]]]) -> int:
    """A quarter of the rows, or up to half if every length of a row is among these then: kernels depend on lengths."""
    seen = {len(ids): row for row, (ids, _) in reversed(list(enumerate(rows)))}
    complete = max(seen.values()) + 1
    quarter = max(len(rows) // 4, 1)
    return max(quarter, complete) if complete <= len(rows) // 2 else quarter


def measure(args: argparse.Namespace, shape: str, passes: list, rows: int, first: int) -> list[Turn]:
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(shape, Path(folder) / "model", stats(args.tokens)["vocab_size"])
        shutil.copy(args.tokens / "tokenizer.json", model)
        theirs = [Torch(model, args, way) for way in args.ways]
        for side in theirs:
            side.choose_batches(passes)
        if args.on_gpu:
            ours(args, Path(folder), rows)
            ours(args, Path(folder), first)
        turns = []
        for _ in range(args.turns):
            costs = [side.score(passes) for side in theirs]
            turns.append(Turn(costs, ours(args, Path(folder), rows), ours(args, Path(folder), first)))
    return turns


def line(args: argparse.Namespace, shape: str, tokens: int, later: int, turns: list[Turn]) -> str:
    walls = [statistics.median(turn.theirs[side].wall for turn in turns) for side in range(len(turns[0].theirs))]
    best = walls.index(min(walls))
    wall = statistics.median(turn.ours.wall for turn in turns)
    busy = statistics.median(turn.theirs[best].busy for turn in turns) / statistics.median(turn.ours.busy for turn in turns)
    seconds = steady_seconds(turns, LEAST_SHARE if args.on_gpu else 0.0)
    steady = later / seconds if seconds else math.nan
    whole, without_start = walls[best] / wall, steady * walls[best] / tokens
    ratios = [number(without_start), f"{whole:.2f}"] if args.on_gpu else [f"{whole:.2f}", number(without_start)]
    theirs = [tokens / walls[args.ways.index(way)] if way in args.ways else 0.0 for way in WAYS]
    rates = [*theirs, steady if args.on_gpu else tokens / wall]
    flops = turns[0].ours.flops / tokens * steady / 1e9
    used = f" ({flops / args.peak / 10:.1f} %)" if args.peak and seconds else ""
    cells = [shape, f"{tokens / 1000:.0f} k", *map(thousands, rates), f"**{ratios[0]}**", ratios[1], f"{busy:.2f}"]
    cells += [f"{flops:.0f}{used}" if seconds else "too noisy", f"{turns[0].ours.memory / 2**20:.0f} MiB"]
    return f"| {' | '.join(cells)} |"


def steady_seconds(turns: list[Turn], least: float) -> float | None:
    """Our time of the rows behind the first ones, unless noise is as large as it: one turn does not tell, nor does one of
    which it is less than the share `least` of that of the first rows."""
    differences = [turn.ours.wall - turn.first.wall for turn in turns]
    found = statistics.median(turn.ours.wall for turn in turns) - statistics.median(turn.first.wall for turn in turns)
    enough = all(difference > least * turn.first.wall for turn, difference in zip(turns, differences, strict=True))
    return found if len(turns) > 1 and enough and max(differences) < 2 * min(differences) else None


def number(ratio: float) -> str:
    return "too noisy" if math.isnan(ratio) else f"{ratio:.2f}"


def thousands(rate: float) -> str:
    if math.isnan(rate):
        return "too noisy"
    return f"{rate / 1000:.1f} k" if rate else "–"


def checkpoint(shape: str, folder: Path, vocab_size: int) -> Path:
    """A random BERT whose entropies differ as those of a trained one do. What its embeddings of tokens, which are its
    decoder too, and of positions are multiplied by makes them as large as LOGITS says; one alone would drown the other."""
    layers, width = SHAPES[shape]
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=vocab_size, num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for table in (model.bert.embeddings.word_embeddings, model.bert.embeddings.position_embeddings):
            # Behind the last layer norm a state's squares add up to the width.
            table.weight.mul_(LOGITS / (config.initializer_range * math.sqrt(width)))
    model.save_pretrained(folder)
    return folder


def stats(tokens: Path) -> dict:
    return json.loads((tokens / "manifest.json").read_text())["stats"]


def read_rows(tokens: Path, count: int) -> list[tuple[list[int], list[int]]]:
    """Ids and maskable positions of the first rows."""
    rows = []
    for part in sorted(tokens.glob("part-*.parquet")):
        table = pq.read_table(part, columns=["input_ids", "word"]).slice(0, count - len(rows)).to_pylist()
        rows += [(row["input_ids"], [i for i, word in enumerate(row["word"]) if word is not None]) for row in table]
    return rows


def all_passes(rows: list[tuple[list[int], list[int]]], folds: int, mask: int) -> list[tuple[int, list[int], list[int]]]:
    """Row, masked ids and positions of each pass. Which position is in which fold changes nothing of the work."""
    passes = []
    for row, (ids, maskable) in enumerate(rows):
        for fold in range(folds):
            positions = maskable[fold::folds]
            if positions:
                masked = list(ids)
                for position in positions:
                    masked[position] = mask
                passes.append((row, masked, positions))
    return sorted(passes, key=lambda item: len(item[1]))


class Torch:
    def __init__(self, model: Path, args: argparse.Namespace, way: str) -> None:
        self.device, self.compiled, self.works = args.torch_device, way == COMPILED, True
        self.on_gpu = not self.device.startswith("cpu")
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
        self.model = BertForMaskedLM.from_pretrained(model, attn_implementation=ATTENTION, dtype=self.dtype)
        self.model = self.model.eval().to(self.device)
        if way == ONEDNN:
            take_to_onednn(self.model)
        self.step = self.measure
        self.batch_size, self.alike = 0, 1

    def choose_batches(self, passes: list) -> None:
        """A first call compiles or allocates; on a GPU for each size, and for all lengths at last."""
        sizes = BATCH_SIZES_ON_GPU if self.on_gpu else BATCH_SIZES
        some = passes[-sizes[-1] * (8 if self.on_gpu else 1) :]
        self.score(some, sizes[0])
        self.batch_size = self.fastest(sizes, lambda size: self.score(some, size))
        if self.on_gpu:
            for alike in ALIKE_ON_GPU:
                self.score(passes, alike=alike)
            self.alike = self.fastest(ALIKE_ON_GPU, lambda alike: self.score(passes, alike=alike))

    def fastest(self, choices: list[int], score) -> int:
        times = range(2 if self.on_gpu else 1)
        walls = {choice: min(score(choice).wall for _ in times) for choice in choices}
        return min(walls, key=walls.get)

    def score(self, passes: list, batch_size: int | None = None, alike: int | None = None) -> Cost:
        if not self.works:
            return NEVER
        try:
            return self.timed(passes, batch_size or self.batch_size, alike or self.alike)
        except Exception as error:
            if not self.compiled:
                raise
            say_that_compile_fails(error)
            self.works = False
            return NEVER

    @torch.inference_mode()
    def timed(self, passes: list, batch_size: int, alike: int) -> Cost:
        if self.compiled and self.step == self.measure:
            self.step = torch.compile(self.measure, dynamic=True)
        work = self.tensors(passes, batch_size, alike)
        if self.on_gpu:
            work = list(work)
            torch.cuda.synchronize()
        began, busy = time.perf_counter(), time.process_time()
        entropies = torch.cat([both.cpu() for both in [self.step(*batch) for batch in work]], dim=1)[0]
        return Cost(time.perf_counter() - began, time.process_time() - busy, entropies)

    def tensors(self, passes: list, batch_size: int, alike: int) -> Iterator[Work]:
        """Each batch, on the device."""
        for batch in batches(passes, batch_size, alike):
            yield tuple(part if part is None else part.to(self.device) for part in tensors(batch))

    def measure(self, ids: torch.Tensor, mask: torch.Tensor | None, flat: torch.Tensor) -> torch.Tensor:
        hidden = self.model.bert(input_ids=ids, attention_mask=mask).last_hidden_state.flatten(0, 1)[flat]
        log_q = torch.log_softmax(self.model.cls(hidden).float(), -1)
        entropy = -(log_q.exp() * log_q).sum(-1)
        surprisal = -log_q.gather(-1, ids.flatten()[flat].unsqueeze(-1)).squeeze(-1)
        return torch.stack([entropy, surprisal])


def take_to_onednn(module: torch.nn.Module) -> None:
    """Dense layers become those of oneDNN, which reorder their weights now. They take tensors and give tensors."""
    from torch.utils.mkldnn import MkldnnLinear  # Warns of its age when it is read.

    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, MkldnnLinear(child, torch.float32))
        else:
            take_to_onednn(child)


def say_that_compile_fails(error: Exception) -> None:
    print("torch.compile does not work here:", (str(error).strip() or type(error).__name__).splitlines()[0], flush=True)


def batches(passes: list, size: int, alike: int) -> Iterator[list]:
    """Of passes that are sorted by their lengths, as many as have about the same."""
    for _, group in itertools.groupby(passes, lambda item: math.ceil(len(item[1]) / alike)):
        group = list(group)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def tensors(batch: list) -> Work:
    """transformers takes a mask with four dimensions as it is, and so need not look whether it hides anything."""
    lengths = torch.tensor([len(ids) for _, ids, _ in batch])
    width = int(lengths.max())
    ids = torch.tensor([ids + [0] * (width - len(ids)) for _, ids, _ in batch])
    flat = torch.tensor([n * width + at for n, (_, _, positions) in enumerate(batch) for at in positions])
    real = torch.arange(width) < lengths[:, None]
    mask = None if bool(real.all()) else real[:, None, None, :].expand(-1, -1, width, -1).contiguous()
    return ids, mask, flat


def ours(args: argparse.Namespace, folder: Path, rows: int) -> Cost:
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        out = Path(parent) / "entropy"
        command = [args.score, "--tokens", args.tokens, "--model", folder / "model", "--out", out, "--quiet"]
        command += ["--device", args.device, "--dtype", args.dtype]
        wall, busy = spent(*command, "--set", f"folds={args.folds}", "--set", f"rows={rows}")
        cost = json.loads((out / "manifest.json").read_text())["cost"]
        return Cost(wall, busy, column(out, "entropy"), cost["flops"], cost["peak_memory_bytes"])


def spent(*command) -> tuple[float, float]:
    """Seconds of the clock and of all processors; what the command has to say about an error is the last of ours, too."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL).returncode
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"{Path(command[0]).name} ended with exit code {code}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def column(folder: Path, name: str) -> torch.Tensor:
    """The values of an entropy artifact, rows in order, without those that were not scored."""
    tables = [pq.read_table(part, columns=[name])[name] for part in sorted(folder.glob("part-*.parquet"))]
    chunks = [chunk.flatten().drop_null() for table in tables for chunk in table.chunks]
    return torch.cat([torch.tensor(chunk.to_numpy()) for chunk in chunks])


def check(one: Cost, other: Cost) -> None:
    """Both did the work: as many entropies, all of them numbers, distributed alike. More cannot be said, as which tokens
    share a pass differs. A constant fails, as does what is not a number."""
    theirs, ours = (side.entropies.float().sort().values for side in (one, other))
    if len(theirs) != len(ours):
        raise SystemExit(f"{len(theirs)} entropies of PyTorch, {len(ours)} of ours")
    at = [len(ours) * percent // 100 for percent in range(5, 100, 5)]
    off = (theirs[at] - ours[at]).abs().max()
    finite = bool(theirs.isfinite().all() and ours.isfinite().all())
    if not (finite and off < QUANTILES):
        raise SystemExit(f"quantiles of entropies differ by up to {off} nats; all are finite: {finite}")


if __name__ == "__main__":
    main()
