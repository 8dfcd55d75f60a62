#!/usr/bin/env python3
"""Writes the reference of crates/pretrain/src/step/trace.rs: 300 steps of training a small BERT with PyTorch.

    pip install torch transformers safetensors
    python tests/parity/export_trace.py crates/pretrain/tests/fixtures/trace

Weights, batches and, step by step, the losses of masked language modelling and of distillation from a second model, with
AdamW (no decay of norms and biases), clipping, warmup and linear decay, all of it by torch and transformers. Rows have
different lengths, so that padding is part of it. Their tokens follow x -> 3x + 1 with noise, which can be learned.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

STEPS, ROWS, LENGTH, MASKED, VOCAB, MASK = 300, 8, 12, 2, 60, 4
LR, WARMUP, CLIP, TEMPERATURE, KD = 5e-3, 18, 1.0, 2.0, 0.5


def main(out: Path) -> None:
    torch.manual_seed(20260605)
    torch.use_deterministic_algorithms(True)
    out.mkdir(parents=True, exist_ok=True)
    teacher = model(0.4)
    teacher.save_pretrained(out / "teacher")
    student = model(0.02)
    student.save_pretrained(out / "student")
    data = batches()
    traces = {"mlm": train(out / "student", data, None), "kd": train(out / "student", data, teacher.eval())}
    save_file({**{name: values.to(torch.uint8) for name, values in data.items()}, **traces}, out / "trace.safetensors")
    for name, losses in traces.items():
        print(name, [round(x, 4) for x in losses[[0, 10, 100, 299]].tolist()])


def model(spread: float) -> BertForMaskedLM:
    config = BertConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                        max_position_embeddings=LENGTH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                        initializer_range=spread)
    return BertForMaskedLM(config)


def batches() -> dict[str, torch.Tensor]:
    shape = (STEPS, ROWS)
    lengths = torch.randint(6, LENGTH + 1, shape)
    words = torch.zeros(*shape, LENGTH, dtype=torch.long)
    words[..., 0] = torch.randint(0, VOCAB - 5, shape)
    for place in range(1, LENGTH):
        follows = (3 * words[..., place - 1] + 1) % (VOCAB - 5)
        noise = torch.rand(shape) < 0.1
        words[..., place] = torch.where(noise, torch.randint(0, VOCAB - 5, shape), follows)
    ids = words + 5
    ids[torch.arange(LENGTH) >= lengths[..., None]] = 0
    order = torch.rand(*shape, LENGTH).masked_fill(torch.arange(LENGTH) >= lengths[..., None], 2.0)
    positions = order.argsort(-1)[..., :MASKED].sort(-1).values
    return {"ids": ids, "lengths": lengths, "positions": positions}


def train(start: Path, data: dict[str, torch.Tensor], teacher: BertForMaskedLM | None) -> torch.Tensor:
    student = BertForMaskedLM.from_pretrained(start).train()
    matrices = [p for p in student.parameters() if p.dim() > 1]
    vectors = [p for p in student.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6)
    losses = []
    for step in range(STEPS):
        rate = LR * (step + 1) / WARMUP if step < WARMUP else LR * (1 - (step - WARMUP) / (STEPS - WARMUP))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(student, teacher, *(data[name][step] for name in ("ids", "lengths", "positions")))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def loss_of(student, teacher, ids, lengths, positions) -> torch.Tensor:
    longest = int(lengths.max())
    rows = torch.arange(ROWS)[:, None]
    seen = ids.clone()
    seen[rows, positions] = MASK
    batch = {"input_ids": seen[:, :longest], "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}
    logits = student(**batch).logits[rows, positions].flatten(0, 1)
    ce = torch.nn.functional.cross_entropy(logits, ids[rows, positions].flatten())
    if teacher is None:
        return ce
    with torch.no_grad():
        taught = teacher(**batch).logits[rows, positions].flatten(0, 1)
    log_p, log_q = (torch.log_softmax(z / TEMPERATURE, -1) for z in (taught, logits))
    kd = TEMPERATURE**2 * torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return (1 - KD) * ce + KD * kd


if __name__ == "__main__":
    main(Path(sys.argv[1]))
