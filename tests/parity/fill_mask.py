"""Loads a model artifact with `transformers`, strictly, and lets it fill one mask.

    python tests/parity/fill_mask.py MODEL_DIR [--text "The sun rises in the [MASK] ."]

Fails if a weight is missing, unexpected or misshapen (a decoder tied to the embeddings need not be
stored), if the vocabularies of model and tokenizer differ, or if a logit is not finite. Prints the five
likeliest fillers with their probabilities, tab separated.
"""

import argparse
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # a wrong path must not turn into a download

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging

DEFAULT = "She opened the {mask} and looked at him."


def main() -> None:
    args = arguments()
    logging.disable_progress_bar()
    model = load(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if tokenizer.mask_token is None:
        sys.exit(f"{args.model}: the tokenizer has no mask token")
    if len(tokenizer) > model.config.vocab_size:
        sys.exit(f"{args.model}: {len(tokenizer)} tokens, but the model's vocabulary has {model.config.vocab_size}")
    check_segments(model, tokenizer)
    text = args.text.replace("[MASK]", tokenizer.mask_token) if args.text else DEFAULT.format(mask=tokenizer.mask_token)
    print(text)
    for token, probability in fill(model, tokenizer, text):
        print(f"{token}\t{probability:.6f}")


def check_segments(model, tokenizer) -> None:
    """What the tokenizer makes of a pair, unless told otherwise, is what the model was made for."""
    pair = tokenizer("one", "other", return_tensors="pt")
    has_segments = getattr(model.config, "type_vocab_size", 0) > 1
    if ("token_type_ids" in pair) != has_segments or has_segments and pair["token_type_ids"].max() != 1:
        sys.exit(f"the tokenizer gives {sorted(pair)}, the model has {'' if has_segments else 'no '}segments")
    with torch.no_grad():
        model(**pair)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder: config.json, model.safetensors, tokenizer.json")
    parser.add_argument("--text", help="text with one [MASK]")
    return parser.parse_args()


def load(path: str) -> torch.nn.Module:
    if not os.path.isdir(path):
        sys.exit(f"{path}: no such folder")
    model, info = AutoModelForMaskedLM.from_pretrained(path, output_loading_info=True)
    problems = {name: sorted(map(str, found)) for name, found in info.items() if found}
    if problems:
        sys.exit(f"{path}: the weights do not fit {type(model).__name__}: {problems}")
    return model.eval()


def fill(model: torch.nn.Module, tokenizer, text: str) -> list[tuple[str, float]]:
    batch = tokenizer(text, return_tensors="pt")
    masks = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero()
    if len(masks) != 1:
        sys.exit(f"the text has {len(masks)} masks, expected one: {text!r}")
    with torch.no_grad():
        logits = model(**batch).logits[0]
    if not torch.isfinite(logits).all():
        sys.exit("a logit is not finite")
    best = logits[masks[0, 0]].softmax(-1).topk(5)
    return list(zip(tokenizer.convert_ids_to_tokens(best.indices.tolist()), best.values.tolist()))


if __name__ == "__main__":
    main()
