#!/usr/bin/env python3
"""Collects what gpu_check.py needs on a machine without network and compiler: stripped binaries and device tests.

    python tests/bench/gpu_bundle.py OUT --features entromask-device/cuda,entromask-device/tuned [--cargo cargo]

OUT gets the programs that compute, and in OUT/tests the test binaries that take ENTROMASK_TEST_DEVICE, which cargo is asked
for after it has built them. CARGO_TARGET_DIR says where it builds.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ["entromask-score", "entromask-pretrain"]
# Package and target of the tests that compute on a device, and how the binary is called afterwards.
TESTS = {("entromask-score", "devices"): "score-devices", ("entromask-pretrain", "entromask_pretrain"): "pretrain-step"}


def main() -> None:
    args = arguments()
    common = ["--release", "--locked", "--workspace", *(["--features", args.features] if args.features else [])]
    built = cargo(args, "build", *common, "--bins")
    tests = cargo(args, "test", *common, "--lib", "--test", "devices", "--no-run")
    (args.out / "tests").mkdir(parents=True, exist_ok=True)
    found = {name: args.out / name for name in PROGRAMS} | {name: args.out / "tests" / name for name in TESTS.values()}
    for artifact in built + tests:
        name = name_of(artifact)
        if name in found:
            strip(artifact["executable"], found.pop(name))
    assert not found, f"cargo built none of {sorted(found)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", default="")
    parser.add_argument("--cargo", default="cargo")
    return parser.parse_args()


def cargo(args: argparse.Namespace, *command: str) -> list[dict]:
    """The executables that cargo names."""
    done = subprocess.run([args.cargo, *command, "--message-format", "json-render-diagnostics"], check=True, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [message for message in messages if message.get("executable")]


def name_of(artifact: dict) -> str:
    target = artifact["target"]["name"]
    package = Path(artifact["manifest_path"]).parent.name
    return TESTS.get((f"entromask-{package}", target), "") if artifact["profile"]["test"] else target


def strip(source: str, to: Path) -> None:
    shutil.copy(source, to)
    subprocess.run(["strip", str(to)], check=True)
    print(f"{to}: {to.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
