"""What gpu_check.py checks of a build: that its device computes what the CPU computes, but for rounding."""

import json
import re
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from command import call
from safetensors.torch import load_file
from score import column

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "parity"))
from masked_lm import compared, load  # noqa: E402

ROWS = 200


@dataclass
class Limits:
    """What rounding explains of the difference to the CPU, and a few times more."""

    # Of entropies and surprisals: at most and on average, nats, and their rank correlation, at least.
    most: float
    mean: float
    rank: float
    # Of losses while training, which amplifies what rounding does: relative, at most.
    loss: float


# Found with PyTorch on the CPU for 3,020 tokens of the sample: in bf16 at most 0.19 and 0.039 on average, with a rank
# correlation of 0.9992; with the 10 bits of TF32's operands, cut or rounded, 0.030, 0.013 and 0.99999. Entropies in
# another order differ by 3.9 and 1.1, and a constant by 2.5 and 0.85, with a rank correlation of 0. Losses: 1.1e-4 of
# themselves in bf16, 1.2e-4 in TF32.
LIMITS = {
    "f32": Limits(most=1e-3, mean=1e-4, rank=0.9999, loss=1e-3),
    "tf32": Limits(most=0.1, mean=0.04, rank=0.999, loss=1e-3),
    "bf16": Limits(most=0.8, mean=0.15, rank=0.99, loss=5e-3),
}
# Of logits with a standard deviation of 5; found were 2.3e-5 on the CPU, and 0.027 with the operands of TF32.
LOGITS_LIMITS = {"f32": 2e-4, "tf32": 0.1}
STEPS = 12
# If the CPU's results are missing, the checks that run side by side do not make them in one folder at once.
EXACT = threading.Lock()
# Test binaries that take ENTROMASK_TEST_DEVICE, and which of their tests do.
TESTS = {"score-devices": [], "pretrain-step": ["on_the_device"]}
# One of them is of a type that holds for the whole process.
TESTS_IN_BF16 = {"score-devices": ["families"]}
STUDENT = "num_hidden_layers = 4\nhidden_size = 256\nnum_attention_heads = 4\nintermediate_size = 1024\n"
# Masks may have as many epochs as the recipe, and it ends before.
RECIPE = f"""batch_size = 12
epochs = 1000
lr = 1e-3
warmup = 0
budget = {{ steps = {STEPS} }}
validation = {{ rows = 24, every = 100000 }}
run = {{ checkpoint_every = 100000, log_every = 1 }}
"""


@dataclass
class Build:
    """Where programs lie that were built in one way, what they are to compute on, and what was found of them."""

    name: str
    folder: Path
    device: str
    lines: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    # Rows of the last table: what was measured, what was found, and the command.
    measured: list[tuple[str, str, str]] = field(default_factory=list)
    checks: int = 0
    failed: int = 0
    # There was no time for them.
    left_out: int = 0
    # Types in which the device does not compute, as it said.
    lacking: set[str] = field(default_factory=set)

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
        """What is compared on the CPU is f32: not all of them multiply in bf16."""
        return [dtype for dtype in ("f32", "bf16") if dtype not in self.lacking and (dtype == "f32" or not self.on_cpu)]


@dataclass
class Sample:
    """What is computed: a random model on tokens with random masks; and where files may go, and how long a command may take."""

    tokens: Path
    masks: Path
    model: Path
    folder: Path
    most: float
    # When none may go on any more, by time.monotonic().
    end: float = float("inf")

    @property
    def timeout(self) -> float:
        return max(min(self.most, self.end - time.monotonic()), 0.0)


def device_tests(build: Build, sample: Sample, name: str, dtype: str = "f32") -> str:
    tests = TESTS if dtype == "f32" else TESTS_IN_BF16
    command = ["env", f"ENTROMASK_TEST_DTYPE={dtype}", build.folder / "tests" / name, *tests[name], "--test-threads=1"]
    output = call(*command, timeout=sample.timeout, device=build.device, kernels=f"{build.name}-tests-{dtype}")
    result = [line for line in output.splitlines() if line.startswith("test result")]
    assert result and not re.search(r"\b0 passed", result[0]), f"no test ran: {output[-200:]}"
    return result[0].removeprefix("test result: ").split(";")[0]


def logits(build: Build, sample: Sample) -> str:
    """Against transformers, on the CPU."""
    out = sample.folder / f"logits-{build.name}-{build.device}.safetensors"
    common = ["--tokens", sample.tokens, "--model", sample.model, "--out", out, "--device", build.device]
    call(build.score, "logits", *common, "--rows", 8, timeout=sample.timeout, kernels=f"{build.name}-logits")
    theirs, ours, real = compared(load(sample.model), load_file(out))
    off, kind = (theirs - ours)[real].abs().max().item(), rounding(build.device, "f32")
    result = f"{off:.1e} at most from transformers, {int(real.sum())} tokens; {limit(kind, LOGITS_LIMITS[kind])}"
    assert off < LOGITS_LIMITS[kind], result
    return result


def rounding(device: str, dtype: str) -> str:
    """On CUDA products of f32 matrices use tensor cores, which round them to TF32."""
    return "tf32" if dtype == "f32" and device.startswith("cuda") else dtype


def limit(kind: str, value: float) -> str:
    return f"limit of {kind.upper() if kind == 'tf32' else kind}: {value:g}"


def scores(build: Build, sample: Sample, dtype: str) -> str:
    exact = exact_scores(build, sample)
    found = sample.folder / f"scores-{build.name}-{build.device}-{dtype}"
    score(build, sample, found, build.device, dtype)
    kind = rounding(build.device, dtype)
    differences = [difference(name, column(found, name), column(exact, name), kind) for name in ("entropy", "surprisal")]
    limits = LIMITS[kind]
    return f"nats from the CPU: {'; '.join(differences)}; {limit(kind, limits.most)}, {limits.mean:g}, {limits.rank:g}"


def exact_scores(build: Build, sample: Sample) -> Path:
    out = sample.folder / "scores-cpu"
    with EXACT:
        if not finished(out):
            score(build, sample, out, "cpu", "f32")
    return out


def exact_losses(build: Build, sample: Sample) -> list[float]:
    with EXACT:
        return trained(build, sample, sample.folder / "model-cpu", "cpu", "f32")


def finished(out: Path) -> bool:
    """The manifest is written last. What a run left that ended before is removed."""
    if (out / "manifest.json").exists():
        return True
    shutil.rmtree(out, ignore_errors=True)
    return False


def score(build: Build, sample: Sample, out: Path, device: str, dtype: str) -> None:
    options = ["--device", device, "--dtype", dtype, "--set", f"rows={ROWS}", "--quiet"]
    command = [build.score, "--tokens", sample.tokens, "--model", sample.model, "--out", out, *options]
    call(*command, timeout=sample.timeout, kernels=f"{build.name}-scores-{dtype}")


def difference(name: str, found: torch.Tensor, exact: torch.Tensor, kind: str) -> str:
    """Comparisons with what is no number are false, so it fails."""
    assert len(found) == len(exact) > 0, f"{name}: {len(found)} values, {len(exact)} on the CPU"
    limits, off = LIMITS[kind], (found - exact).abs()
    most, mean, rank = off.max().item(), off.mean().item(), rank_correlation(found, exact)
    result = f"{name} max {most:.1e}, mean {mean:.1e}, rank correlation {rank:.5f}"
    limited = f"{limit(kind, limits.most)}, {limits.mean:g}, {limits.rank:g}"
    assert most < limits.most and mean < limits.mean and rank > limits.rank, f"{result}; {limited}"
    return result


def rank_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Spearman's; equal values, of which there are hardly any, have different ranks."""
    ranks = torch.stack([values.argsort(stable=True).argsort().double() for values in (one, other)])
    return torch.corrcoef(ranks)[0, 1].item()


def losses(build: Build, sample: Sample, devices: str, dtype: str) -> str:
    exact = exact_losses(build, sample)
    out = sample.folder / f"model-{build.name}-{devices}-{dtype}"
    found = trained(build, sample, out, devices, dtype)
    kind = rounding(devices, dtype)
    off = [abs(ours / theirs - 1) for ours, theirs in zip(found, exact, strict=True)]
    result = f"{len(exact)} losses from {exact[0]:.3f} to {exact[-1]:.3f} nats: {max(off):.1e} from the CPU's at most"
    result = f"{result}; {limit(kind, LIMITS[kind].loss)}"
    assert exact[-1] < exact[0] - 0.1, f"nothing was learned: {result}"
    # The largest of some numbers may be smaller than one that is none.
    assert all(value < LIMITS[kind].loss for value in off), f"{result}: {found}"
    return result


def trained(build: Build, sample: Sample, out: Path, devices: str, dtype: str) -> list[float]:
    """The losses of each step and of the validation before and after them."""
    if not finished(out):
        files = [out.with_suffix(suffix) for suffix in (".student.toml", ".train.toml")]
        for file, text in zip(files, (STUDENT, RECIPE), strict=True):
            file.write_text(text)
        options = ["--config", files[1], "--student", files[0]]
        options += ["--device", devices, "--dtype", dtype, "--tokens", sample.tokens, "--masks", sample.masks]
        kernels = f"{build.name}-losses-{devices}-{dtype}"
        call(build.pretrain, *options, "--out", out, "--quiet", timeout=sample.timeout, kernels=kernels)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for name in ("loss", "valid_loss") for row in rows if name in row]
