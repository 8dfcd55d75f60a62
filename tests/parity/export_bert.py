#!/usr/bin/env python3
"""Writes the fixture of crates/encoder/tests/parity.rs: a tiny BERT with random weights and what transformers
computes with it.

    pip install torch transformers safetensors
    python tests/parity/export_bert.py crates/encoder/tests/fixtures/tiny-bert

The weights are stored as f16 to keep the fixture small; the reference is computed in f32 from the rounded weights.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

NUM_LABELS = 3


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20260605)
    config = BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=24,
        initializer_range=0.3,  # large, so that an error anywhere shows in the logits
        num_labels=NUM_LABELS,
    )
    masked_lm = BertForMaskedLM(config).eval()
    classifier = BertForSequenceClassification(config).eval()
    for model in (masked_lm, classifier):
        roughen(model)
    classifier.bert.load_state_dict(masked_lm.bert.state_dict(), strict=False)
    write_model(out, config, masked_lm, classifier)
    save_file(reference(masked_lm, classifier), out / "reference.safetensors")


def roughen(model: torch.nn.Module) -> None:
    """Gives biases and layer normalisations values that differ from 0 and 1, and rounds all weights to f16."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.2)
            weight.copy_(weight.half().float())


def write_model(out: Path, config: BertConfig, masked_lm: BertForMaskedLM, classifier) -> None:
    config.architectures = ["BertForMaskedLM"]
    config.save_pretrained(out)
    tensors = dict(masked_lm.state_dict())
    tensors.update({name: w for name, w in classifier.state_dict().items() if "pooler" in name or "classifier" in name})
    kept = {name: w.half().contiguous() for name, w in tensors.items() if w.is_floating_point() and "decoder" not in name}
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def reference(masked_lm: BertForMaskedLM, classifier: BertForSequenceClassification) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([11, 7, 1])
    mask = (torch.arange(11)[None, :] < lengths[:, None]).long()
    ids = torch.randint(1, 99, (3, 11)) * mask
    types = (torch.arange(11)[None, :] >= 5).long() * mask
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    hidden = masked_lm.bert(**batch).last_hidden_state
    logits = masked_lm(**batch).logits
    labels = classifier(**batch).logits
    for layer in masked_lm.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = torch.nn.GELU(approximate="tanh")
    masked_lm.cls.predictions.transform.transform_act_fn = torch.nn.GELU(approximate="tanh")
    return {
        "input_ids": ids.int(),
        "attention_mask": mask.int(),
        "token_type_ids": types.int(),
        "hidden": hidden,
        "logits": logits,
        "logits_gelu_new": masked_lm(**batch).logits,
        "labels": labels,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
