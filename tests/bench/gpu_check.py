#!/usr/bin/env python3
"""Checks entromask-score on GPUs and measures it, in one call, on a machine that may have no network.

    python tests/bench/gpu_check.py --binaries llvm=DIR nvrtc=DIR --tokens TOKENS --devices cuda vulkan --out gpu.md

Needed are stripped binaries of entromask-score (one folder for each way that they were built), a tokens artifact, and
Python with torch, transformers, safetensors and pyarrow. For each folder and device: logits of a random BERT against
transformers; entropies and surprisals of a sample on the device, in f32 and bf16, against those of the CPU; and
tests/bench/score.py for some shapes, in f32 and bf16. What fails is noted, and the rest goes on. The exit code is 1 if
anything failed, and the tables come last, in --out too.
"""

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import torch
from score import checkpoint

HERE = Path(__file__).parent
ROWS = 200
# The largest differences that rounding explains, nats; bf16 has 8 bits.
LIMITS = {"f32": 1e-3, "bf16": 0.5}


@dataclass
class Run:
    build: str
    score: Path
    device: str
    lines: list[str] = field(default_factory=list)
    failed: bool = False


def main() -> int:
    args = arguments()
    runs = [Run(name, Path(folder) / "entromask-score", device) for name, folder in args.binaries for device in args.devices]
    bench = []
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint("mini", Path(folder) / "mini")
        shutil.copy(args.tokens / "tokenizer.json", model)
        for run in runs:
            attempt(run, "logits", lambda run=run: logits(run, args, model, Path(folder)))
            for dtype in LIMITS:
                attempt(run, f"scores, {dtype}", lambda run=run, dtype=dtype: scores(run, args, model, Path(folder), dtype))
            for dtype in args.dtypes:
                attempt(run, f"speed, {dtype}", lambda run=run, dtype=dtype: bench.extend(speed(run, args, dtype)))
    text = "\n".join([*header(), *(line for run in runs for line in run.lines), "", *bench])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)
    return int(any(run.failed for run in runs))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", nargs="+", type=lambda pair: pair.split("=", 1), required=True, metavar="NAME=DIR")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--devices", nargs="+", default=["cuda", "vulkan"])
    parser.add_argument("--dtypes", nargs="*", default=["f32", "bf16"], help="types to measure the speed in; none skips it")
    parser.add_argument("--shapes", nargs="+", default=["mini", "base"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=240, help="seconds for one command")
    parser.add_argument("--bench", nargs=argparse.REMAINDER, default=[], help="further options of score.py")
    return parser.parse_args()


def header() -> list[str]:
    gpu = [torch.cuda.get_device_name(0), f"CUDA {torch.version.cuda}"] if torch.cuda.is_available() else ["no CUDA device"]
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    today = datetime.date.today().isoformat()
    return [f"{today}: {', '.join(gpu + versions)}", "", f"`{' '.join(sys.argv)}`", "", "| build | device | check | result | seconds |", "|---|---|---|---|---|"]


def attempt(run: Run, what: str, check) -> None:
    began = time.perf_counter()
    try:
        result = check() or "done"
    except subprocess.CalledProcessError as error:
        run.failed, result = True, f"FAILED: exit {error.returncode}: {last_line(error.stderr)}"
    except (subprocess.TimeoutExpired, AssertionError) as error:
        run.failed, result = True, f"FAILED: {error}"
    run.lines.append(f"| {run.build} | {run.device} | {what} | {result} | {time.perf_counter() - began:.1f} |")
    print(run.lines[-1], flush=True)


def last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def logits(run: Run, args: argparse.Namespace, model: Path, folder: Path) -> str:
    out = folder / f"logits-{run.build}-{run.device}.safetensors"
    common = ["--tokens", args.tokens, "--model", model, "--out", out, "--device", run.device]
    call(args, run.score, "logits", *common, "--rows", 8)
    output = call(args, sys.executable, HERE.parent / "parity" / "masked_lm.py", model, out)
    return output.splitlines()[-1]


def scores(run: Run, args: argparse.Namespace, model: Path, folder: Path, dtype: str) -> str:
    cpu = folder / f"cpu-{run.build}"
    if not cpu.exists():
        score(run, args, model, cpu, "cpu", "f32")
    out = folder / f"{run.build}-{run.device}-{dtype}"
    score(run, args, model, out, run.device, dtype)
    results = []
    for column in ("entropy", "surprisal"):
        difference = (read(out, column) - read(cpu, column)).abs()
        results.append(f"{column} max {difference.max():.1e}, mean {difference.mean():.1e}")
        assert difference.max() < LIMITS[dtype], results[-1]
    return "nats from the CPU: " + "; ".join(results)


def score(run: Run, args: argparse.Namespace, model: Path, out: Path, device: str, dtype: str) -> None:
    options = ["--device", device, "--dtype", dtype, "--set", f"rows={ROWS}", "--quiet"]
    call(args, run.score, "--tokens", args.tokens, "--model", model, "--out", out, *options)


def read(folder: Path, column: str) -> torch.Tensor:
    tables = [pq.read_table(part, columns=[column]) for part in sorted(folder.glob("part-*.parquet"))]
    rows = [row for table in tables for row in table[column].to_pylist() if row]
    return torch.tensor([value for row in rows for value in row if value is not None])


def speed(run: Run, args: argparse.Namespace, dtype: str) -> list[str]:
    options = ["--device", run.device, "--dtype", dtype, "--shapes", *args.shapes, *args.bench]
    output = call(args, sys.executable, HERE / "score.py", run.score, args.tokens, *options)
    return [f"{run.build}: {output.strip()}", ""]


def call(args: argparse.Namespace, *command) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, timeout=args.timeout)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
