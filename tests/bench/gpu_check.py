#!/usr/bin/env python3
"""Checks scoring and training on GPUs and measures them, in one call, on a machine that may have no network.

    python tests/bench/gpu_check.py --binaries cuda-llvm=DIR cuda-nvrtc=DIR vulkan=DIR --tokens TOKENS --masks MASKS --out gpu.md
                                    [--timeout SECONDS] [--budget SECONDS] [--bench OPTIONS]

Needed are what gpu_bundle.py collects (one folder for each way that it was built, whose name begins with its device), a
tokens artifact with random masks, and Python with torch, transformers, safetensors and pyarrow. First all checks of all
builds, those of one side by side, since kernels are compiled and chosen most of the time: the device tests; logits of a random BERT against transformers; entropies and surprisals of a sample on the device,
in f32 and bf16, against those of the CPU; losses of some training steps, in f32 and bf16, against those of the CPU, and on
several GPUs at once where there are some. On CUDA f32 is allowed what TF32 explains, since matrix products of f32 use it.
Beside them the programs run once as they will be measured, which says how long a first use takes beside all the others. Then
tests/bench/score.py and tests/bench/train.py, with PyTorch as it is and compiled, one after the other, small shapes first and
bf16 before f32, as far as the budget of time reaches: the checks of all builds share FOR_CHECKS of it, and measurements what
is left, each its part; what is not begun is noted as left out.

Attention in bf16 on CUDA is one kernel. With ENTROMASK_ATTENTION=products in the environment it is by products: the same call again,
on the same machine, tells which is faster.

What fails is noted, with the last lines that it printed, and the rest goes on; a type in which a device does not compute is
no failure. The exit code is 1 if anything failed, or a build passed nothing. The report is written to --out after each step, so
that it has all that was found if this is killed; what the programs warned of is in it, and last a short table. SIGTERM and
SIGINT end what runs, and the report is printed.
"""

import argparse
import datetime
import functools
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import transformers
from checks import TESTS, TESTS_IN_BF16, Build, Sample, device_tests, exact_losses, exact_scores, logits, losses, rounding, scores
from command import WARNINGS, Failed, NoTime, call, stop
from score import checkpoint, stats

HERE = Path(__file__).parent
# What the GPU can do by its own specification, dense, TFLOP/s; of H100 and H200 with SXM, as other ones do less. "tf32" is what
# f32 is multiplied in through CUDA, "f32" without tensor cores.
PEAKS = {
    "H200": {"f32": 66.9, "tf32": 494.5, "bf16": 989},
    "H100 80GB HBM3": {"f32": 66.9, "tf32": 494.5, "bf16": 989},
    "A100": {"f32": 19.5, "tf32": 156, "bf16": 312},
}
# A measurement with less time left than this, in seconds, is not begun.
LEAST = 30
# And one may take so much of it, whatever is left for the others.
IN_ANY_CASE = 120
# What the checks of all builds may take of the budget.
FOR_CHECKS = 0.6
# What a program says of a type in which its device does not compute.
LACKS = "does not compute in bf16"
# Checks run side by side, and each notes what it found and writes the report.
NOTES = threading.RLock()


def main() -> int:
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, stop)
    args = arguments()
    builds = [Build(name, Path(folder), args.device or name.split("-")[0]) for name, folder in args.binaries]
    try:
        everything(args, builds)
    except KeyboardInterrupt:
        builds[-1].failed += 1
        note(builds[-1], "the rest", "FAILED: stopped", 0.0)
        write(args.out, builds)
    print(report(builds))
    return int(any(build.failed or not build.checks for build in builds))


def everything(args: argparse.Namespace, builds: list[Build]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint("mini", Path(folder) / "mini", stats(args.tokens)["vocab_size"])
        shutil.copy(args.tokens / "tokenizer.json", model)
        sample = Sample(args.tokens, args.masks, model, Path(folder), args.timeout)
        for place, build in enumerate(builds):
            sample.end = end_of_checks(args, len(builds) - place)
            check(args, builds, build, sample)
        speeds(args, builds)


def end_of_checks(args: argparse.Namespace, builds_left: int) -> float:
    """When those of the next build have to end, by time.monotonic()."""
    if args.budget is None:
        return args.end
    now, last = time.monotonic(), args.end - (1 - FOR_CHECKS) * args.budget
    return now + max(last - now, 0.0) / builds_left


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", nargs="+", type=lambda pair: pair.split("=", 1), required=True, metavar="NAME=DIR")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True, help="random masks of the tokens")
    parser.add_argument("--device", help="another one than the names of the binaries begin with, e.g. cuda:1")
    parser.add_argument("--several", nargs="*", default=several(), help="lists of devices to train on at once, e.g. cuda:0,1")
    parser.add_argument("--dtypes", nargs="*", default=["bf16", "f32"], help="types to measure the speed in; none skips it")
    parser.add_argument("--shapes", nargs="+", default=["mini", "base"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=1200, help="seconds for one command; tuning takes most of them")
    parser.add_argument("--budget", type=float, help="seconds that all of it may take (default: no end)")
    parser.add_argument("--bench", nargs=argparse.REMAINDER, default=[], help="further options of score.py and train.py")
    args = parser.parse_args()
    args.end = time.monotonic() + (float("inf") if args.budget is None else args.budget)
    return args


def several() -> list[str]:
    """All GPUs that PyTorch sees, if there is more than one."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cuda:" + ",".join(map(str, range(count)))] if count > 1 else []


def check(args: argparse.Namespace, builds: list[Build], build: Build, sample: Sample) -> None:
    """The CPU computes what all are compared with before, and what it has to check itself one after the other."""
    if sample.end - time.monotonic() < min(LEAST, args.timeout):
        leave_out(build, "checks")
        return
    attempt(build, "scores and losses on the CPU", lambda: f"{exact_scores(build, sample).name}, {exact_losses(build, sample)[-1]:.3f}")
    # A signal interrupts only the wait for the threads, which end then by themselves, as their commands were ended.
    pool = ThreadPoolExecutor(1 if build.on_cpu else None)
    try:
        for what, step in steps(args, build, sample).items():
            pool.submit(attempt, build, what, step).add_done_callback(lambda _: write(args.out, builds))
    finally:
        try:
            pool.shutdown()
        except KeyboardInterrupt:
            pool.shutdown()
            raise


def steps(args: argparse.Namespace, build: Build, sample: Sample) -> dict[str, Callable[[], str]]:
    steps = {f"tests: {name}": lambda name=name: device_tests(build, sample, name) for name in TESTS}
    if "bf16" in build.dtypes:
        steps |= {f"tests: {name}, bf16": lambda name=name: device_tests(build, sample, name, "bf16") for name in TESTS_IN_BF16}
    steps["logits"] = lambda: logits(build, sample)
    steps |= {f"scores, {dtype}": lambda dtype=dtype: scores(build, sample, dtype) for dtype in build.dtypes}
    steps |= {f"losses, {dtype}": lambda dtype=dtype: losses(build, sample, build.device, dtype) for dtype in build.dtypes}
    for devices in (devices for devices in args.several if backend(devices) == backend(build.device)):
        steps[f"losses on {devices}"] = lambda devices=devices: losses(build, sample, devices, "f32")
    for dtype in (dtype for dtype in args.dtypes if dtype in build.dtypes and not build.on_cpu):
        for what, command in measured(args, build).items():
            options = ["--device", build.device, "--dtype", dtype, "--shapes", *args.shapes, "--first-use", *args.bench]
            kernels = kernels_of(build, what, dtype)
            step = lambda command=command, options=options, kernels=kernels: call(  # noqa: E731
                sys.executable, *command, *options, timeout=sample.timeout, kernels=kernels
            )
            steps[f"first use, {what}, {dtype}"] = step
    return steps


def backend(device: str) -> str:
    return re.match(r"\w+", device)[0]


def attempt(build: Build, what: str, step: Callable[[], str]) -> None:
    """Whatever goes wrong is the result of this step alone; the check of a model's tensors ends with SystemExit."""
    began, failed, tails = time.perf_counter(), 0, []
    try:
        result = step()
    except NoTime:
        leave_out(build, what)
        return
    except (Exception, SystemExit) as error:
        if isinstance(error, Failed) and LACKS in f"{error} {error.tail}":
            with NOTES:
                build.lacking.add("bf16")
                note(build, what, f"left out: the device {LACKS}", time.perf_counter() - began)
            return
        kind = "" if isinstance(error, Failed | AssertionError) else f"{type(error).__name__}: "
        result, failed = f"FAILED: {kind}{error}", 1
        tails = tail(f"{build.name}, {what}", error)
    with NOTES:
        build.checks += 1
        build.failed += failed
        build.tails += tails
        note(build, what, result, time.perf_counter() - began)


def leave_out(build: Build, what: str) -> None:
    with NOTES:
        build.left_out += 1
        note(build, what, "left out: no time", 0.0)


def tail(title: str, error: BaseException) -> list[str]:
    lines = [f"    {line}" for line in getattr(error, "tail", [])]
    return [f"{title}:", "", *lines, ""] if lines else []


def note(build: Build, what: str, result: str, seconds: float) -> None:
    cell = " ".join(result.replace("|", "/").split())
    build.lines.append(f"| {build.name} | {build.device} | {what} | {cell} | {seconds:.1f} |")
    print(build.lines[-1], flush=True)


def write(out: Path, builds: list[Build]) -> None:
    """Beside and renamed: one who is killed here leaves the report as it was before. It is printed at last in any case."""
    beside = out.with_name(out.name + ".new")
    try:
        with NOTES:
            out.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(report(builds) + "\n")
            os.replace(beside, out)
    except OSError as error:
        print(f"the report is not written: {error}", file=sys.stderr, flush=True)


def report(builds: list[Build]) -> str:
    lines = [*header(), *(line for build in builds for line in build.lines), ""]
    lines += [line for build in builds for line in build.tables]
    lines += [line for build in builds for line in build.tails]
    lines += ["Warnings:", "", *(f"    {line}" for line in WARNINGS), ""] if WARNINGS else []
    return "\n".join([*lines, *summary(builds)])


def header() -> list[str]:
    table = ["| build | device | check | result | seconds |", "|---|---|---|---|---|"]
    return [f"{today()}: {versions()}", "", f"`{shlex.join(sys.argv)}`", "", *table]


def today() -> str:
    return datetime.date.today().isoformat()


@functools.cache
def versions() -> str:
    gpu = ["no CUDA device"]
    if torch.cuda.is_available():
        gpu = [torch.cuda.get_device_name(0), *driver(), f"CUDA {torch.version.cuda}"]
    names = [f"torch {torch.__version__}", f"transformers {transformers.__version__}", f"Python {platform.python_version()}"]
    return ", ".join(gpu + names)


def driver() -> list[str]:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return [f"driver {subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]}"]
    except (OSError, subprocess.SubprocessError, IndexError):
        return []


def summary(builds: list[Build]) -> list[str]:
    """As docs/benchmarks.md has it."""
    lines = [f"{versions()}:", "", "| date | build, device | what | found | command |", "|---|---|---|---|---|"]
    for build in builds:
        passed = f"{build.checks - build.failed} of {build.checks} passed"
        passed += f", {build.left_out} left out" if build.left_out else ""
        rows = [("checks and measurements", passed, as_typed(sys.argv)), *build.measured]
        lines += [f"| {today()} | {build.name}, {build.device} | {what} | {found} | `{command}` |" for what, found, command in rows]
    return lines


def speeds(args: argparse.Namespace, builds: list[Build]) -> None:
    """Each may take its part of the time that is left, so that one that hangs leaves some to the others."""
    todo = [(build, what, shape, dtype) for shape in args.shapes for dtype in args.dtypes for build in builds for what in measured(args, build)]
    for place, (build, what, shape, dtype) in enumerate(todo):
        if dtype not in build.dtypes:
            continue
        title, left = f"speed of {what}, {shape}, {dtype}", args.end - time.monotonic()
        if left < LEAST:
            leave_out(build, title)
        else:
            timeout = min(args.timeout, left, max(left / (len(todo) - place), IN_ANY_CASE))
            attempt(build, title, lambda: speed(args, build, what, shape, dtype, timeout))  # noqa: B023
        write(args.out, builds)


def measured(args: argparse.Namespace, build: Build) -> dict[str, list]:
    return {
        "scoring": [HERE / "score.py", build.score, args.tokens],
        "training": [HERE / "train.py", build.pretrain, args.tokens, args.masks],
    }


def kernels_of(build: Build, what: str, dtype: str) -> str:
    return f"{build.name}-{what}-{dtype}"


def speed(args: argparse.Namespace, build: Build, what: str, shape: str, dtype: str, timeout: float) -> str:
    options = ["--device", build.device, "--dtype", dtype, "--shapes", shape, *peak(build, dtype)]
    options += [*([] if build.on_cpu else ["--compile"]), *args.bench]
    command = [*measured(args, build)[what], *options]
    title, line = f"{what}, {dtype}", as_typed(command)
    try:
        output = call(sys.executable, *command, timeout=timeout, kernels=kernels_of(build, what, dtype))
    except Failed as failed:
        keep(build, title, failed.output, "not all of it", line)
        raise
    remarks = [line for line in output.splitlines() if line.startswith("torch.compile")]
    keep(build, title, output, "; ".join([settings(output), *remarks]), line)
    return "; ".join(["done", *remarks])


def as_typed(command: list) -> str:
    """With what the environment tells our programs."""
    told = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("ENTROMASK_") and name != "ENTROMASK_GIT"]
    return " ".join([*told, shlex.join(str(part) for part in command)])


def peak(build: Build, dtype: str) -> list[str]:
    name = torch.cuda.get_device_name(number(build.device)) if torch.cuda.is_available() and not build.on_cpu else ""
    found = [rates[rounding(build.device, dtype)] for gpu, rates in PEAKS.items() if gpu in name]
    return ["--peak", str(found[0])] if found else []


def number(device: str) -> int:
    """Of `cuda:1`, 1."""
    return int(device.partition(":")[2] or 0)


def settings(output: str) -> str:
    """The line that stands between the rows as they were measured and the whole table."""
    return [line for line in output.splitlines() if not line.startswith("|")][-1]


def keep(build: Build, what: str, output: str, remark: str, command: str) -> None:
    """The table, which is printed row by row and then again as a whole: each row once."""
    rows = list(dict.fromkeys(line for line in output.splitlines() if line.startswith("|")))
    if len(rows) > 2:
        names, _, *found = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
        build.measured += [(f"{what}, {row[0]}", told(names, row), command) for row in found]
        build.tables += [f"{build.name}, {what}: {remark}", "", *rows, ""]


def told(names: list[str], row: list[str]) -> str:
    """A row without a table: each value behind what it is, but for those that were not measured."""
    pairs = zip(names[1:], row[1:], strict=True)
    return "; ".join(f"{name.strip('*')} {value}" for name, value in pairs if value.strip("–, "))


if __name__ == "__main__":
    raise SystemExit(main())
