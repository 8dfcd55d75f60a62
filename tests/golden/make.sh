#!/usr/bin/env bash
# Makes the golden artifacts of the current format version: `tests/golden/make.sh BIN tests/golden/format-1`, where BIN
# is the folder of the stage binaries. They are made once for each version and never again: later versions of entromask
# must still read them.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(realpath "$1") out=$(realpath -m "$2")
[ ! -e "$out" ] || { echo "$out exists: golden artifacts are never made again" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

zstd -dc data/sample/corpus/hossain-sultanas-dream.txt.zst | tr -s '\n' | head -n 40 | sed 'G' > "$work/corpus.txt"
cp -r tests/fixtures/tokenizers/unigram data/sample/glue "$work"
# Manifests record paths: relative ones are the same on every machine.
cd "$work"
cat > student.toml <<'S'
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
max_position_embeddings = 32
hidden_dropout_prob = 0.1
attention_probs_dropout_prob = 0.1
S
cat > glue.toml <<'S'
data = "glue"
tasks = ["WNLI"]
seeds = 1
[recipe]
epochs = 1
S
"$bin/entromask-tokenize" -q --out tokens --set files='["corpus.txt"]' --set seq_len=32 \
  --set tokenizer=unigram --set valid_fraction=0.2 --set shard_rows=30
"$bin/entromask-select" -q --out masks --tokens tokens --set epochs=1
"$bin/entromask-pretrain" -q --out model --tokens tokens --masks masks --student student.toml --set epochs=1
"$bin/entromask-score" -q --out entropy --tokens tokens --model model
"$bin/entromask-glue" -q --out scores --config glue.toml --model model
mkdir -p "$out"
mv tokens masks model entropy "$out"
mv scores "$out/glue"
find "$out" -name '.*' -type f -delete
du -sh "$out"
