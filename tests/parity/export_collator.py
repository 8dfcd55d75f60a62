"""Counts what Hugging Face's `DataCollatorForLanguageModeling` masks, for `crates/policy/tests/collator.rs`.

    python tests/parity/export_collator.py > crates/policy/tests/fixtures/collator.json

Rows of 126 ordinary tokens between [CLS] and [SEP], 15 % of them masked, 80/10/10. The collator draws each token by
itself, so that its rows have 18.9 masked tokens on average; how often each position is masked, and what the model sees
there, is what must agree.
"""

import json
import os

import torch
import transformers
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

ROWS, LENGTH, RATE, SEED = 20_000, 126, 0.15, 1
TOKENIZER = os.path.join(os.path.dirname(__file__), "../../data/tokenizers/bert-base-uncased/tokenizer.json")
ORIGINAL = 2054  # "what"


def main() -> None:
    torch.manual_seed(SEED)
    special = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=TOKENIZER, **special)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)
    row = [tokenizer.cls_token_id, *[ORIGINAL] * LENGTH, tokenizer.sep_token_id]
    positions = torch.zeros(LENGTH + 2, dtype=torch.int64)
    masked = kept = 0
    for _ in range(ROWS // 1000):
        batch = collator([{"input_ids": row} for _ in range(1000)])
        chosen = batch["labels"] != -100
        positions += chosen.sum(0)
        masked += (batch["input_ids"][chosen] == tokenizer.mask_token_id).sum().item()
        kept += (batch["input_ids"][chosen] == ORIGINAL).sum().item()
    print(json.dumps({
        "transformers": transformers.__version__,
        "rows": ROWS,
        "rate": RATE,
        "positions": positions.tolist(),
        "mask": masked,
        "original": kept,
        "random": positions.sum().item() - masked - kept,
    }))


if __name__ == "__main__":
    main()
