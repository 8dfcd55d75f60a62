#!/usr/bin/env python3
"""Writes the fixtures of crates/encoder/tests/families.rs: small models with random weights of every family, and what
transformers computes with them.

    pip install torch transformers safetensors
    python tests/parity/export_encoders.py crates/encoder/tests/fixtures/families

Weights are rounded to f16 to keep the fixtures small; the reference is computed in f32 from the rounded weights. Each
case has shapes of its own (odd numbers of heads, widths that differ, position offsets), and a row of one token, a short
and a full one.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

NUM_LABELS = 3
VOCAB = 61
SMALL = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
PLAIN = {**SMALL, "max_position_embeddings": 20, "pad_token_id": 0}
MODERN = {**SMALL, "max_position_embeddings": 64, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3,
          "bos_token_id": 2, "eos_token_id": 3, "num_hidden_layers": 4}

# name -> (model type, configuration, how the weights are stored)
CASES = {
    "bert": ("bert", PLAIN, "single"),
    "bert-odd-heads": ("bert", {**PLAIN, "num_attention_heads": 1, "hidden_act": "gelu_new"}, "single"),
    "bert-untied": ("bert", {**PLAIN, "tie_word_embeddings": False, "hidden_act": "relu", "type_vocab_size": 3}, "single"),
    "bert-old-names": ("bert", {**PLAIN, "layer_norm_eps": 1e-5, "hidden_act": "silu"}, "old"),
    "roberta": ("roberta", {**PLAIN, "pad_token_id": 1, "type_vocab_size": 1, "hidden_act": "relu"}, "bin"),
    "roberta-offset": ("roberta", {**PLAIN, "pad_token_id": 4, "type_vocab_size": 2}, "single"),
    "xlm-roberta": ("xlm-roberta", {**PLAIN, "pad_token_id": 1, "type_vocab_size": 1}, "sharded"),
    "distilbert": ("distilbert", {**PLAIN, "hidden_dim": 20, "activation": "gelu"}, "single"),
    "distilbert-relu": ("distilbert", {**PLAIN, "hidden_dim": 28, "activation": "relu", "num_hidden_layers": 3}, "sharded-bin"),
    "albert": ("albert", {**PLAIN, "embedding_size": 16, "num_hidden_layers": 4, "hidden_act": "gelu_new"}, "single"),
    "albert-groups": ("albert", {**PLAIN, "embedding_size": 24, "num_hidden_layers": 4, "num_hidden_groups": 2,
                                 "inner_group_num": 2, "hidden_act": "gelu_fast"}, "single"),
    "electra-generator": ("electra", {**PLAIN, "embedding_size": 16, "hidden_act": "quick_gelu"}, "single"),
    "electra-square": ("electra", {**PLAIN, "embedding_size": 24}, "bare"),
    "megatron-bert": ("megatron-bert", {**PLAIN, "num_hidden_layers": 3}, "single"),
    "modernbert": ("modernbert", {**MODERN, "local_attention": 6, "hidden_activation": "gelu"}, "single"),
    "modernbert-biased": ("modernbert", {**MODERN, "local_attention": 8, "global_attn_every_n_layers": 2, "norm_bias": True,
                                         "attention_bias": True, "mlp_bias": True, "classifier_bias": True,
                                         "decoder_bias": False, "classifier_activation": "relu",
                                         "classifier_pooling": "mean"}, "single"),
    # A case's number is its seed: new ones come last.
    "xlm-roberta-untied": ("xlm-roberta", {**PLAIN, "pad_token_id": 3, "type_vocab_size": 2, "num_attention_heads": 1,
                                           "hidden_act": "gelu_new", "tie_word_embeddings": False}, "single"),
    "megatron-bert-odd-heads": ("megatron-bert", {**PLAIN, "num_attention_heads": 1, "hidden_act": "relu"}, "sharded"),
    # transformers divides in floating point: layer 9 of 18 is in the sixth of 14 groups, not in the seventh.
    "albert-uneven": ("albert", {**PLAIN, "embedding_size": 16, "num_hidden_layers": 18, "num_hidden_groups": 14,
                                 "intermediate_size": 8}, "single"),
    # Its rows hold the padding token, as of texts that spell it, which transformers does not count.
    "roberta-spelled-padding": ("roberta", {**PLAIN, "pad_token_id": 2, "type_vocab_size": 2}, "single"),
    "camembert": ("camembert", {**PLAIN, "pad_token_id": 1, "type_vocab_size": 1, "hidden_act": "gelu_python"}, "single"),
}


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for number, (name, (model_type, values, storage)) in enumerate(CASES.items()):
        torch.manual_seed(20260605 + number)
        # Weights are large, so that an error anywhere shows in the logits.
        config = AutoConfig.for_model(model_type, **values, initializer_range=0.3, num_labels=NUM_LABELS)
        export(out / name, config, storage)


def export(folder: Path, config, storage: str) -> None:
    folder.mkdir(parents=True)
    masked_lm = AutoModelForMaskedLM.from_config(config).eval()
    classifier = AutoModelForSequenceClassification.from_config(config).eval()
    for model in (masked_lm, classifier):
        roughen(model)
    share_body(masked_lm, classifier)
    config.architectures = [type(masked_lm).__name__]
    config.save_pretrained(folder)
    store(folder, weights(masked_lm, classifier, config, storage), storage)
    spelled = folder.name.endswith("spelled-padding")
    save_file(reference(masked_lm, classifier, config, spelled), folder / "reference.safetensors")


def roughen(model: torch.nn.Module) -> None:
    """Gives biases and layer normalisations values that differ from 0 and 1, and rounds all weights to f16."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.2)
            weight.copy_(weight.half().float())


def share_body(masked_lm, classifier) -> None:
    body = masked_lm.base_model.state_dict()
    classifier.base_model.load_state_dict(body, strict=False)
    if hasattr(classifier, "head"):  # ModernBERT's classifier has the dense layer of its masked-LM head
        classifier.head.load_state_dict(masked_lm.head.state_dict())


def weights(masked_lm, classifier, config, storage: str) -> dict[str, torch.Tensor]:
    tensors = {**classifier.state_dict(), **masked_lm.state_dict()}
    if config.tie_word_embeddings:
        embeddings = masked_lm.get_input_embeddings().weight.data_ptr()
        tied = [name for name, w in masked_lm.state_dict().items()
                if w.data_ptr() == embeddings and "embeddings" not in name]
        tensors = {name: w for name, w in tensors.items() if name not in tied}
    tensors = {name: w.half().contiguous().clone() for name, w in tensors.items() if w.is_floating_point()}
    if storage == "old":
        rename = lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors = {rename(name): w for name, w in tensors.items()}
    if storage == "bare":
        tensors = {name.removeprefix(masked_lm.base_model_prefix + "."): w for name, w in tensors.items()}
    return tensors


def store(folder: Path, tensors: dict[str, torch.Tensor], storage: str) -> None:
    binary = storage.endswith("bin")
    kind = "pytorch_model.bin" if binary else "model.safetensors"
    save = torch.save if binary else lambda part, path: save_file(part, path, metadata={"format": "pt"})
    if not storage.startswith("sharded"):
        save(tensors, folder / kind)
        return
    stem, suffix = kind.rsplit(".", 1)
    names = sorted(tensors)
    parts = [names[::2], names[1::2]]
    weight_map = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-{number:05}-of-{len(parts):05}.{suffix}"
        save({name: tensors[name] for name in part}, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": sum(w.nbytes for w in tensors.values())}, "weight_map": weight_map}
    (folder / f"{kind}.index.json").write_text(json.dumps(index, indent=2) + "\n")


@torch.no_grad()
def reference(masked_lm, classifier, config, spelled: bool) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([14, 9, 1])
    place = torch.arange(14)[None, :]
    mask = (place < lengths[:, None]).long()
    ids = torch.randint(5, VOCAB, (3, 14)) * mask + config.pad_token_id * (1 - mask)
    if spelled:
        ids[0, [4, 5, 11]] = ids[1, 8] = config.pad_token_id
    types = (place >= 5).long() * mask
    batch = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        batch["token_type_ids"] = types
    logits = masked_lm(**batch).logits
    log_q = torch.log_softmax(logits.double(), -1)
    return {
        "input_ids": ids.int(),
        "attention_mask": mask.int(),
        "token_type_ids": types.int(),
        "hidden": masked_lm.base_model(**batch).last_hidden_state,
        "logits": logits,
        "entropy": -(log_q.exp() * log_q).sum(-1).float(),
        "labels": classifier(**batch).logits,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
