#!/usr/bin/env python3
"""Checks scoring and training on GPUs and measures them, in one call, on a machine that may have no network.

    python tests/bench/gpu_check.py --binaries cuda-llvm=DIR cuda-nvrtc=DIR vulkan=DIR --tokens TOKENS --masks MASKS --out gpu.md

Needed are what gpu_bundle.py collects (one folder for each way that it was built, whose name begins with its device), a tokens artifact with random masks, and
Python with torch, transformers, safetensors and pyarrow. For each folder and device: the device tests; logits of a random
BERT against transformers; entropies and surprisals of a sample on the device, in f32 and bf16, against those of the CPU;
losses of some training steps, in f32 and bf16, against those of the CPU, and on several GPUs at once where there are some;
tests/bench/score.py and tests/bench/train.py for some shapes, in f32 and bf16, the latter with PyTorch as it is and
compiled. What fails is noted, and the rest goes on. The exit code is 1 if anything failed. The tables come last, in --out
too, and last of all a short one.
"""

import argparse
import datetime
import json
import os
import platform
import re
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
# The same of losses, relative. Training amplifies what rounding does.
LOSS_LIMITS = {"f32": 1e-3, "bf16": 2e-2}
STEPS = 12
# Test binaries that take ENTROMASK_TEST_DEVICE, and which of their tests do.
TESTS = {"score-devices": [], "pretrain-step": ["on_the_device"]}
STUDENT = "num_hidden_layers = 4\nhidden_size = 256\nnum_attention_heads = 4\nintermediate_size = 1024\n"
RECIPE = f"""batch_size = 12
lr = 1e-3
warmup = 0
budget = {{ steps = {STEPS} }}
validation = {{ rows = 24, every = 100000 }}
run = {{ checkpoint_every = 100000, log_every = 1 }}
"""
# What the GPU can do by its own specification, dense, TFLOP/s.
PEAKS = {"H200": {"f32": 67, "bf16": 989}, "H100": {"f32": 67, "bf16": 989}, "A100": {"f32": 19.5, "bf16": 312}}


@dataclass
class Run:
    build: str
    folder: Path
    device: str
    lines: list[str] = field(default_factory=list)
    checks: int = 0
    failed: int = 0
    ratios: list[str] = field(default_factory=list)

    @property
    def score(self) -> Path:
        return self.folder / "entromask-score"

    @property
    def pretrain(self) -> Path:
        return self.folder / "entromask-pretrain"

    @property
    def on_cpu(self) -> bool:
        return self.device.startswith("cpu")

    @property
    def dtypes(self) -> list[str]:
        """The CPU has no units for bf16, and says so."""
        return ["f32"] if self.on_cpu else list(LIMITS)


def main() -> int:
    args = arguments()
    runs = [Run(name, Path(folder), args.device or name.split("-")[0]) for name, folder in args.binaries]
    bench = []
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint("mini", Path(folder) / "mini")
        shutil.copy(args.tokens / "tokenizer.json", model)
        for run in runs:
            check(run, args, model, Path(folder))
            for dtype in [dtype for dtype in args.dtypes if dtype in run.dtypes]:
                attempt(run, f"speed of scoring, {dtype}", lambda: bench.extend(speed(run, args, dtype)))
                attempt(run, f"speed of training, {dtype}", lambda: bench.extend(train_speed(run, args, dtype)))
    text = "\n".join([*header(), *(line for run in runs for line in run.lines), "", *bench, *summary(runs)])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)
    return int(any(run.failed for run in runs))


def check(run: Run, args: argparse.Namespace, model: Path, folder: Path) -> None:
    for name, names in TESTS.items():
        attempt(run, f"tests: {name}", lambda: device_tests(run, args, name, names))
    attempt(run, "logits", lambda: logits(run, args, model, folder))
    for dtype in run.dtypes:
        attempt(run, f"scores, {dtype}", lambda: scores(run, args, model, folder, dtype))
    for dtype in run.dtypes:
        attempt(run, f"losses, {dtype}", lambda: losses(run, args, folder, run.device, dtype))
    for devices in [devices for devices in args.several if re.match(r"\w+", devices)[0] == re.match(r"\w+", run.device)[0]]:
        attempt(run, f"losses on {devices}", lambda: losses(run, args, folder, devices, "f32"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", nargs="+", type=lambda pair: pair.split("=", 1), required=True, metavar="NAME=DIR")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="random masks of the tokens")
    parser.add_argument("--device", help="another one than the names of the binaries begin with, e.g. cuda:1")
    parser.add_argument("--several", nargs="*", default=several(), help="lists of devices to train on at once, e.g. cuda:0,1")
    parser.add_argument("--dtypes", nargs="*", default=["f32", "bf16"], help="types to measure the speed in; none skips it")
    parser.add_argument("--shapes", nargs="+", default=["mini", "base"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=240, help="seconds for one command")
    parser.add_argument("--bench", nargs=argparse.REMAINDER, default=[], help="further options of score.py and train.py")
    return parser.parse_args()


def several() -> list[str]:
    """All GPUs that PyTorch sees, if there is more than one."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cuda:" + ",".join(map(str, range(count)))] if count > 1 else []


def peak(run: Run, dtype: str) -> list[str]:
    if run.on_cpu:
        return []
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    found = [rates[dtype] for gpu, rates in PEAKS.items() if gpu in name]
    return ["--peak", str(found[0])] if found else []


def header() -> list[str]:
    gpu = [torch.cuda.get_device_name(0), f"CUDA {torch.version.cuda}"] if torch.cuda.is_available() else ["no CUDA device"]
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    today = datetime.date.today().isoformat()
    return [f"{today}: {', '.join(gpu + versions)}", "", f"`{' '.join(sys.argv)}`", "", "| build | device | check | result | seconds |", "|---|---|---|---|---|"]


def summary(runs: list[Run]) -> list[str]:
    lines = ["| build | device | checks passed | ours to PyTorch (the faster of its two where compiled) |", "|---|---|---|---|"]
    for run in runs:
        passed = f"{run.checks - run.failed} of {run.checks}"
        lines.append(f"| {run.build} | {run.device} | {passed} | {'; '.join(run.ratios) or 'not measured'} |")
    return lines


def attempt(run: Run, what: str, check) -> None:
    began = time.perf_counter()
    run.checks += 1
    try:
        result = check() or "done"
    except subprocess.CalledProcessError as error:
        result = f"FAILED: exit {error.returncode}: {last_line(error.stderr)}"
    except (subprocess.TimeoutExpired, AssertionError, OSError) as error:
        result = f"FAILED: {error}"
    run.failed += result.startswith("FAILED")
    run.lines.append(f"| {run.build} | {run.device} | {what} | {result} | {time.perf_counter() - began:.1f} |")
    print(run.lines[-1], flush=True)


def last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def device_tests(run: Run, args: argparse.Namespace, name: str, names: list[str]) -> str:
    output = call(args, run.folder / "tests" / name, *names, "--test-threads=1", device=run.device)
    result = next(line for line in output.splitlines() if line.startswith("test result"))
    assert not re.search(r"\b0 passed", result), f"no test ran: {result}"
    return result.removeprefix("test result: ").split(";")[0]


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


def losses(run: Run, args: argparse.Namespace, folder: Path, devices: str, dtype: str) -> str:
    exact = trained(run, args, folder, "cpu", "f32")
    found = trained(run, args, folder, devices, dtype)
    off = max(abs(ours / theirs - 1) for ours, theirs in zip(found, exact, strict=True))
    result = f"{len(exact)} losses from {exact[0]:.3f} to {exact[-1]:.3f} nats: {off:.1e} from the CPU's at most"
    assert exact[-1] < exact[0] - 0.1, f"nothing was learned: {result}"
    assert off < LOSS_LIMITS[dtype], result
    return result


def trained(run: Run, args: argparse.Namespace, folder: Path, devices: str, dtype: str) -> list[float]:
    """The losses of each step and of the validation before and after them."""
    out = folder / f"model-{run.build}-{devices}-{dtype}"
    for name, text in (("student.toml", STUDENT), ("train.toml", RECIPE)):
        (folder / name).write_text(text)
    options = ["--config", folder / "train.toml", "--student", folder / "student.toml", "--device", devices, "--dtype", dtype]
    call(args, run.pretrain, *options, "--tokens", args.tokens, "--masks", args.masks, "--out", out, "--quiet")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for name in ("loss", "valid_loss") for row in rows if name in row]


def read(folder: Path, column: str) -> torch.Tensor:
    tables = [pq.read_table(part, columns=[column]) for part in sorted(folder.glob("part-*.parquet"))]
    rows = [row for table in tables for row in table[column].to_pylist() if row]
    return torch.tensor([value for row in rows for value in row if value is not None])


def speed(run: Run, args: argparse.Namespace, dtype: str) -> list[str]:
    compiled = [] if run.on_cpu else ["--compile"]
    return measured(run, args, f"scoring, {dtype}", HERE / "score.py", run.score, args.tokens, *compiled, dtype=dtype)


def train_speed(run: Run, args: argparse.Namespace, dtype: str) -> list[str]:
    paths = [run.pretrain, args.tokens, args.masks]
    compiled = [] if run.on_cpu else ["--compile"]
    return measured(run, args, f"training, {dtype}", HERE / "train.py", *paths, *compiled, dtype=dtype)


def measured(run: Run, args: argparse.Namespace, what: str, *command, dtype: str) -> list[str]:
    options = ["--device", run.device, "--dtype", dtype, "--shapes", *args.shapes, *peak(run, dtype), *args.bench]
    output = call(args, sys.executable, *command, *options).strip()
    # The lines behind the last one that is no table are the table.
    lines = output.splitlines()
    start = max(index for index, line in enumerate(lines) if not line.startswith("|"))
    ratios = [(line.split("|")[1].strip(), re.search(r"\*\*([\d.]+)\*\*", line)) for line in lines[start + 1 :]]
    run.ratios.append(f"{what}: " + ", ".join(f"{shape} {ratio[1]}" for shape, ratio in ratios if ratio))
    return [f"{run.build}, {what}: {lines[start]}", "", *lines[start + 1 :], ""]


def call(args: argparse.Namespace, *command, device: str = "cpu") -> str:
    environment = os.environ | {"ENTROMASK_TEST_DEVICE": device}
    command = [str(part) for part in command]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=args.timeout, env=environment)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
