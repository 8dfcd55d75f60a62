#!/usr/bin/env bash
# Makes the golden artifacts of the current format version: `tests/golden/make.sh BIN tests/golden/format-1`, where BIN
# is the folder of the stage binaries. They are made once for each version and never again: later versions of entromask
# must still read them.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin="$1" out="$2"
[ ! -e "$out" ] || { echo "$out exists: golden artifacts are never made again" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

zstd -dc data/sample/corpus/hossain-sultanas-dream.txt.zst | tr -s '\n' | head -n 40 | sed 'G' > "$work/corpus.txt"
cat > "$work/student.toml" <<'S'
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
max_position_embeddings = 32
S
cat > "$work/task.toml" <<'S'
data = "data/sample/glue"
tasks = ["WNLI"]
seeds = 1
[recipe]
epochs = 1
S
mkdir -p "$out"
"$bin/entromask-tokenize" -q --out "$out/tokens" --set files="[\"$work/corpus.txt\"]" --set seq_len=32 \
  --set tokenizer=tests/fixtures/tokenizers/unigram --set valid_fraction=0.2 --set shard_rows=30
"$bin/entromask-select" -q --out "$out/masks" --tokens "$out/tokens" --set epochs=1
"$bin/entromask-pretrain" -q --out "$out/model" --tokens "$out/tokens" --masks "$out/masks" \
  --student "$work/student.toml" --set epochs=1
"$bin/entromask-score" -q --out "$out/entropy" --tokens "$out/tokens" --model "$out/model"
"$bin/entromask-glue" -q --out "$out/glue" --config "$work/task.toml" --model "$out/model"
find "$out" -name '.*' -type f -delete
du -sh "$out"
