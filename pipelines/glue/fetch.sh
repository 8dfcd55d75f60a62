#!/usr/bin/env bash
# Fetches GLUE's official files into a folder: `pipelines/glue/fetch.sh data/glue-data`. Needs curl, unzip, sha256sum and awk.
#
# Sizes and digests are those that Hugging Face's `datasets` recorded when it fetched the same files
# (datasets/glue/dataset_infos.json). What is there already is not fetched again; what does not match is not unpacked.
# `pipelines/glue/fetch.sh --split-mrpc DIR` only divides MRPC's training file, which GLUE does not distribute divided.
set -euo pipefail

mirror=${GLUE_MIRROR:-https://dl.fbaipublicfiles.com}

files='
glue/data/CoLA.zip 376971 f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff
glue/data/SST-2.zip 7439277 d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa
glue/data/STS-B.zip 802872 e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85
glue/data/QQP-clean.zip 41696084 40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0
glue/data/MNLI.zip 312783507 e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633
glue/data/QNLIv2.zip 10627589 e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5
glue/data/RTE.zip 697150 6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee
glue/data/WNLI.zip 28999 ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46
glue/data/AX.tsv 222257 0e13510b1bb14436ff7e2ee82338f0efb0133ecf2e73507a697dc210db3f05fd
glue/data/mrpc_dev_ids.tsv 6222 971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7
senteval/senteval_data/msr_paraphrase_train.txt 1047044 60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89
senteval/senteval_data/msr_paraphrase_test.txt 441275 a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784
'

# fetch PATH BYTES SHA256: the file below $cache, complete and as it should be
fetch() {
  local name=${1##*/} found
  if [ ! -f "$cache/$name" ]; then
    echo "fetching $name, $2 bytes" >&2
    curl --fail --location --silent --show-error --retry 3 --output "$cache/$name.part" "$mirror/$1"
    mv "$cache/$name.part" "$cache/$name"
  fi
  found="$(wc -c < "$cache/$name") $(sha256sum "$cache/$name" | cut -d' ' -f1)"
  if [ "$found" != "$2 $3" ]; then
    echo "$cache/$name: bytes and sha256 are $found, they must be $2 $3; delete the file and try again" >&2
    exit 3
  fi
}

# The rows of msr_paraphrase_train.txt whose pair of ids is in mrpc_dev_ids.tsv are dev.tsv, the others train.tsv; both
# keep the header with its byte-order mark. Test rows get a number in place of their label. Lines end in CR LF.
split_mrpc() {
  local from=$1 to=$2
  awk -F'\t' -v to="$to" '
    { sub(/\r$/, "") }
    FILENAME == ARGV[1] { dev[$1, $2] = 1; next }
    FNR == 1 { print > (to "/train.tsv"); print > (to "/dev.tsv"); next }
    { print > (to (($2, $3) in dev ? "/dev.tsv" : "/train.tsv")) }
  ' "$from/mrpc_dev_ids.tsv" "$from/msr_paraphrase_train.txt"
  awk -F'\t' -v OFS='\t' '
    { sub(/\r$/, "") }
    NR == 1 { print "index", "#1 ID", "#2 ID", "#1 String", "#2 String"; next }
    { print NR - 2, $2, $3, $4, $5 }
  ' "$from/msr_paraphrase_test.txt" > "$to/test.tsv"
}

if [ "${1:-}" = --split-mrpc ]; then
  split_mrpc "$2" "$2"
  exit
fi
[ $# = 1 ] || { echo "usage: pipelines/glue/fetch.sh DIR" >&2; exit 2; }
out=$1 cache=$1/.download
mkdir -p "$cache" "$out/MRPC" "$out/diagnostic"
while read -r path bytes digest; do
  [ -z "$path" ] || fetch "$path" "$bytes" "$digest"
done <<< "$files"
for zip in "$cache"/*.zip; do
  unzip -q -o "$zip" -d "$out"
done
split_mrpc "$cache" "$out/MRPC"
cp "$cache/AX.tsv" "$out/diagnostic/diagnostic.tsv"
echo "$out: complete; $cache may be removed" >&2
