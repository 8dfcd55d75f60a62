"""Exports how values are carried from RoBERTa's tokens to BERT's, computed byte by byte with NumPy.

    python tests/parity/export_carry.py ROBERTA/tokenizer.json

writes crates/score/tests/fixtures/carry.jsonl: for some of the lines of tests/fixtures/tokens/lines.jsonl the byte spans
of both tokenizers' tokens, a made-up value for each of RoBERTa's, and what each of BERT's gets as sum and as mean.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
LINES = ROOT / "tests/fixtures/tokens/lines.jsonl"
BERT = ROOT / "data/tokenizers/bert-base-uncased/tokenizer.json"
OUT = ROOT / "crates/score/tests/fixtures/carry.jsonl"
EVERY = 12
LONGEST = 160


def spans(tokenizer, text):
    """Spans in UTF-8 bytes; Python counts characters."""
    starts = np.cumsum([0] + [len(letter.encode()) for letter in text])
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    return [(int(starts[begin]), int(starts[end])) for begin, end in offsets]


def carried(text, teacher, values, student):
    """What each byte holds is given to the tokens that cover it, in equal parts."""
    n = len(text.encode())
    owners = np.zeros(n)
    for begin, end in student:
        owners[begin:end] += 1
    held, total, layers = np.zeros(n), np.zeros(n), np.zeros(n)
    for (begin, end), value in zip(teacher, values):
        covered = np.arange(begin, end)[owners[begin:end] > 0]
        if len(covered):
            held[covered] += value / len(covered)
        total[begin:end] += value
        layers[begin:end] += 1
    sums, means = [], []
    for begin, end in student:
        bytes_ = slice(begin, end)
        weight = (layers[bytes_] / owners[bytes_]).sum()
        there = weight > 0
        sums.append(round(float((held[bytes_] / owners[bytes_]).sum()), 4) if there else None)
        means.append(round(float((total[bytes_] / owners[bytes_]).sum() / weight), 4) if there else None)
    return sums, means


def main():
    roberta, bert = Tokenizer.from_file(sys.argv[1]), Tokenizer.from_file(str(BERT))
    lines = [json.loads(line) for line in LINES.read_text(encoding="utf-8").split("\n") if line]
    draw = np.random.default_rng(1)
    rows = []
    for text in [line for line in lines[::EVERY] if 0 < len(line) <= LONGEST]:
        teacher, student = spans(roberta, text), spans(bert, text)
        values = [round(float(value), 3) for value in draw.gamma(2.0, 1.5, len(teacher))]
        sums, means = carried(text, teacher, values, student)
        rows.append({"teacher": teacher, "values": values, "student": student, "sum": sums, "mean": means})
    OUT.write_text("\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n", encoding="utf-8")
    print(len(rows), "rows,", sum(len(row["student"]) for row in rows), "tokens")


main()
