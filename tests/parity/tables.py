"""Checks tokens, entropy and masks artifacts with `pyarrow`, DuckDB and the PyPI package `tokenizers`.

    python tests/parity/tables.py DATA_DIR [--rows 500]

Looks for manifests below DATA_DIR, matches entropy and masks to their tokens by content digest, and fails
at the first statement of `data/README.md` that does not hold. Whole columns are checked with arrays; what
needs the tokenizer is checked on `--rows` rows spread evenly over each split. Prints one line an artifact.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models

PART = re.compile(r"^(?P<prefix>part|valid|epoch-\d{3,})-(?P<key>[0-9a-f]{8})-(?P<index>\d{5})\.parquet$")
COLUMNS = {
    "tokens": {
        "row": pa.uint64(),
        "doc": pa.uint64(),
        "text": pa.string(),
        "input_ids": pa.list_(pa.uint32()),
        "word": pa.list_(pa.uint16()),
        "begin": pa.list_(pa.uint32()),
        "end": pa.list_(pa.uint32()),
    },
    "entropy": {"row": pa.uint64(), "entropy": pa.list_(pa.float32()), "surprisal": pa.list_(pa.float32())},
    "masks": {
        "row": pa.uint64(),
        "epoch": pa.uint16(),
        "positions": pa.list_(pa.uint16()),
        "inputs": pa.list_(pa.uint32()),
    },
}


@dataclass
class Artifact:
    """A folder with a manifest; `files` maps a prefix such as `part` or `epoch-003` to its parts in order."""

    path: Path
    manifest: dict
    files: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    def tokens_content(self) -> str:
        """The content digest of the tokens that this artifact was made from."""
        return next(entry["content"] for entry in self.manifest["inputs"] if entry["kind"] == "tokens")


class Mismatch(Exception):
    """A statement about the files that does not hold."""


def main() -> None:
    args = arguments()
    artifacts = [open_artifact(path) for path in sorted(args.data.rglob("manifest.json"))]
    tables = [artifact for kind in COLUMNS for artifact in artifacts if artifact.kind == kind]
    tokens = {artifact.manifest["content"]: artifact for artifact in tables if artifact.kind == "tokens"}
    if not tokens:
        sys.exit(f"{args.data}: no tokens artifact")
    for artifact in tables:
        try:
            print(f"{artifact.path}: {check(artifact, tokens, args.rows)}")
        except Mismatch as error:
            sys.exit(f"{artifact.path}: {error}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds the artifacts, e.g. data")
    parser.add_argument("--rows", type=int, default=500, help="rows of each split to compare with the tokenizer (default 500)")
    return parser.parse_args()


def check(artifact: Artifact, tokens: dict[str, Artifact], rows: int) -> str:
    check_files(artifact)
    if artifact.kind == "tokens":
        return check_tokens(artifact, rows)
    source = tokens.get(artifact.tokens_content())
    ensure(source is not None, "its tokens artifact is not below the data folder")
    return check_entropy(artifact, source) if artifact.kind == "entropy" else check_masks(artifact, source)


def open_artifact(manifest: Path) -> Artifact:
    artifact = Artifact(manifest.parent, json.loads(manifest.read_text(encoding="utf-8")))
    for output in artifact.manifest["outputs"]:
        if match := PART.match(output["file"]):
            artifact.files.setdefault(match["prefix"], []).append(str(artifact.path / output["file"]))
    return artifact


def check_files(artifact: Artifact) -> None:
    """Sizes, row counts, keys and column types are what the manifest and the format say."""
    for output in artifact.manifest["outputs"]:
        path = artifact.path / output["file"]
        ensure(path.stat().st_size == output["bytes"], f"{path.name}: not {output['bytes']} bytes long")
        if match := PART.match(output["file"]):
            ensure(match["key"] == artifact.manifest["key"][:8], f"{path.name}: not of the key {artifact.manifest['key']}")
            footer = pq.read_metadata(path)
            ensure(footer.num_rows == output["rows"], f"{path.name}: {footer.num_rows} rows, manifest {output['rows']}")
            found = {name: plain(type_) for name, type_ in zip(*schema(path))}
            further = {name: pa.list_(pa.float32()) for name in artifact.manifest["config"].get("measures", [])}
            ensure(found == COLUMNS[artifact.kind] | further, f"{path.name}: columns {found}")
    for prefix, files in artifact.files.items():
        indices = [int(PART.match(Path(file).name)["index"]) for file in files]
        ensure(indices == list(range(len(files))), f"{prefix}: parts {indices}")


def schema(path: Path) -> tuple[list[str], list[pa.DataType]]:
    found = pq.read_schema(path)
    return found.names, found.types


def plain(type_: pa.DataType) -> pa.DataType:
    """A type without the name and nullability of list items."""
    return pa.list_(type_.value_type) if pa.types.is_list(type_) else type_


def check_tokens(artifact: Artifact, rows: int) -> str:
    tokenizer = Tokenizer.from_file(str(artifact.path / "tokenizer.json"))
    seq_len = artifact.manifest["config"]["seq_len"]
    # The unknown token is special, too, but stands for text.
    control = {id_ for role, id_ in artifact.manifest["stats"]["special"].items() if role != "unk"}
    parts = []
    for split, files in artifact.files.items():
        table = read(files)
        if not len(table):  # a corpus of few documents may have none that is held out
            parts.append(f"{split} 0 rows")
            continue
        check_rows(table, split)
        lengths = same_lengths(table, "input_ids", "word", "begin", "end")
        ensure(lengths.max() <= seq_len, f"{split}: a row of {lengths.max()} tokens, seq_len {seq_len}")
        ensure(np.all(np.diff(column(table, "doc").astype(np.int64)) >= 0), f"{split}: documents are not in order")
        check_special(table, tokenizer, split)
        same_in_duckdb(files, table, "input_ids", '"begin"', '"end"')
        equal = check_against_tokenizer(table, tokenizer, control, rows, split)
        parts.append(f"{split} {len(table)} rows, {lengths.sum()} tokens, {equal} re-encoded")
    return "; ".join(parts)


def check_special(table: pa.Table, tokenizer: Tokenizer, split: str) -> None:
    """Null words are special tokens, without a span unless the text spells them out; ids fit the vocabulary."""
    input_ids, word = flat(table, "input_ids"), flat_array(table, "word")
    begin, end = flat(table, "begin"), flat(table, "end")
    ensure(input_ids.max() < tokenizer.get_vocab_size(), f"{split}: token id {input_ids.max()} is outside the vocabulary")
    special = word.is_null().to_numpy(zero_copy_only=False)
    names = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    ensure(set(np.unique(input_ids[special]).tolist()) <= set(names), f"{split}: a token without a word is not special")
    # A mask may span the space before it, too.
    spelled = np.array([len(names[id_].encode()) for id_ in input_ids[special].tolist()])
    lengths = (end - begin.astype(np.int64))[special]
    ensure(np.all((lengths == 0) | (lengths >= spelled)), f"{split}: a special token with a span that is not its name")
    ensure(np.all(begin <= end), f"{split}: a span that ends before it begins")


def check_against_tokenizer(table: pa.Table, tokenizer: Tokenizer, control: set[int], rows: int, split: str) -> int:
    """Ids, spans and words of some rows are those that `tokenizers` gives for `text`. Returns how many rows."""
    chosen = np.unique(np.linspace(0, len(table) - 1, min(rows, len(table)), dtype=np.int64))
    for row in table.take(chosen).to_pylist():
        ours = [piece for piece in pieces(row) if piece[1] is not None]
        theirs = [piece for piece in encode(tokenizer, row) if piece[0] not in control]
        for what, take in (("ids", ids), ("words", words), ("spans", spans)):
            found, expected = take(ours), take(theirs)
            ensure(found == expected, f"{split} row {row['row']}: {what} {first_difference(found, expected)}")
        check_slices(tokenizer, row, ours, split)
    return len(chosen)


def pieces(row: dict) -> list[tuple]:
    return list(zip(row["input_ids"], row["word"], zip(row["begin"], row["end"])))


def ids(pieces: list[tuple]) -> list[int]:
    return [piece[0] for piece in pieces]


def words(pieces: list[tuple]) -> list[int]:
    """Words counted from 0: which pieces belong together matters, not how words are numbered."""
    found = [piece[1] for piece in pieces]
    return list(accumulate(zip(found, found[1:]), lambda count, pair: count + (pair[0] != pair[1]), initial=0))


def spans(pieces: list[tuple]) -> list[tuple[int, int]]:
    return [piece[2] for piece in pieces]


def encode(tokenizer: Tokenizer, row: dict) -> list[tuple]:
    """Ids, words and UTF-8 byte spans; Python counts characters, so the spans are converted."""
    found = []
    for number, (start, text) in enumerate(documents(row)):
        at_byte = list(accumulate((len(char.encode("utf-8")) for char in text), initial=start))
        encoding = tokenizer.encode(text, add_special_tokens=False)
        for id_, word, (begin, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets):
            found.append((id_, (number, word), (at_byte[begin], at_byte[end])))
    return found


def documents(row: dict) -> list[tuple[int, str]]:
    """The text of each document in a row and its first byte; a separator and a line feed stand between two."""
    text = row["text"].encode("utf-8")
    separators = {begin for _, word, (begin, end) in pieces(row) if word is None and 0 < begin == end < len(text)}
    starts = [0, *(separator + 1 for separator in sorted(separators))]
    ends = [*sorted(separators), len(text)]
    return [(start, text[start:end].decode("utf-8")) for start, end in zip(starts, ends)]


def check_slices(tokenizer: Tokenizer, row: dict, ours: list[tuple], split: str) -> None:
    """The bytes under a WordPiece span, normalised, are the piece. Other families cut inside characters."""
    if not isinstance(tokenizer.model, models.WordPiece):
        return
    text = row["text"].encode("utf-8")
    for id_, _, (begin, end) in ours:
        piece = tokenizer.id_to_token(id_).removeprefix("##")
        under = tokenizer.normalizer.normalize_str(text[begin:end].decode("utf-8")).strip()
        ensure(piece == "[UNK]" or under == piece, f"{split} row {row['row']}: {under!r} under the token {piece!r}")


def first_difference(found: list, expected: list) -> str:
    index = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    return f"differ at {index}: {found[index:index + 3]} here, {expected[index:index + 3]} from tokenizers"


def check_entropy(artifact: Artifact, tokens: Artifact) -> str:
    # Values that were carried from another tokenizer's tokens are sums over several predictions.
    carried = "carry" in artifact.manifest["config"]
    bound = math.inf if carried else math.log(tokens.manifest["stats"]["vocab_size"])
    parts = []
    for split, files in artifact.files.items():
        table, source = read(files), read(tokens.files[split])
        check_rows(table, split)
        same_rows(table, source, split)
        lengths = same_lengths(table, "entropy", "surprisal")
        ensure(np.array_equal(lengths, list_lengths(source, "input_ids")), f"{split}: lists are not as long as input_ids")
        scored = check_measures(table, source, bound, split)
        same_in_duckdb(files, table, "entropy", "surprisal")
        parts.append(f"{split} {len(table)} rows, {scored} scored, mean {np.nanmean(flat(table, 'entropy')):.4f} nats")
    return "; ".join(parts)


def check_measures(table: pa.Table, source: pa.Table, bound: float, split: str) -> int:
    """Nulls agree and include all special tokens; entropy is within [0, ln V], surprisal not negative."""
    entropy, surprisal = flat_array(table, "entropy"), flat_array(table, "surprisal")
    ensure(entropy.is_null().equals(surprisal.is_null()), f"{split}: entropy and surprisal are null at different positions")
    special = flat_array(source, "word").is_null().to_numpy(zero_copy_only=False)
    ensure(entropy.is_null().to_numpy(zero_copy_only=False)[special].all(), f"{split}: a special token has an entropy")
    nats, loss = (array.drop_null().to_numpy() for array in (entropy, surprisal))
    ensure(np.isfinite(nats).all() and np.isfinite(loss).all(), f"{split}: a value is not finite")
    slack = 1e-3  # the sums are in f32
    ensure(nats.min() >= -slack and nats.max() <= bound + slack, f"{split}: entropies {nats.min()} to {nats.max()}, ln V {bound}")
    ensure(loss.min() >= -slack, f"{split}: surprisal {loss.min()}")
    return len(nats)


def check_masks(artifact: Artifact, tokens: Artifact) -> str:
    source = read(tokens.files["part"])
    maskable = maskable_positions(source)
    config, masked = artifact.manifest["config"], 0
    for prefix, files in artifact.files.items():
        table = read(files)
        check_rows(table, prefix)
        same_rows(table, source, prefix)
        epoch = int(prefix.removeprefix("epoch-"))
        ensure(np.all(column(table, "epoch") == epoch), f"{prefix}: rows of another epoch")
        found = same_lengths(table, "positions", "inputs")
        check_budget(found, maskable, config, rate_of(config["rate"], epoch), prefix)
        masked += found.sum()
        check_positions(table, maskable, prefix)
        ensure(flat(table, "inputs").max() < tokens.manifest["stats"]["vocab_size"], f"{prefix}: an input outside the vocabulary")
        same_in_duckdb(files, table, "positions", "inputs")
    report = artifact.manifest["stats"].get("report")
    ensure(report is None or report["budget"] - report["short"] == masked, f"the report does not say {masked} masks")
    return f"{len(artifact.files)} epochs of {len(source)} rows, {masked} positions"


def check_budget(found: np.ndarray, maskable: list[set[int]], config: dict, rate: float, prefix: str) -> None:
    """Rows have the budget that the rate gives; less where whole words, excluded tokens or `accept` allow less."""
    if config.get("budget", "row") == "shard":
        return
    budget = np.array([budgeted(rate, len(row)) for row in maskable])
    may_be_less = "whole_word" in config or "exclude" in config or config.get("shortfall") == "accept"
    wrong = np.flatnonzero(found > budget if may_be_less else found != budget)
    ensure(not len(wrong), f"{prefix}: {found[wrong[:1]]} positions in row {wrong[:1]}, budget {budget[wrong[:1]]}")


def rate_of(schedule: float | dict, epoch: int) -> float:
    """The value of a schedule: a number, or a table with its shape."""
    if not isinstance(schedule, dict):
        return schedule
    if schedule["shape"] == "step":
        return schedule["values"][min(epoch // schedule["every"], len(schedule["values"]) - 1)]
    done = min(epoch / (schedule["epochs"] - 1), 1.0)
    done = (1 - math.cos(math.pi * done)) / 2 if schedule["shape"] == "cosine" else done
    return schedule["from"] + (schedule["to"] - schedule["from"]) * done


def budgeted(rate: float, maskable: int) -> int:
    """round(rate · maskable), half away from zero, at least 1 where there is anything to mask."""
    exact = rate * maskable
    return min(max(1, math.floor(exact) + (exact - math.floor(exact) >= 0.5)), maskable)


def maskable_positions(source: pa.Table) -> list[set[int]]:
    return [{i for i, word in enumerate(row) if word is not None} for row in source.column("word").to_pylist()]


def check_positions(table: pa.Table, maskable: list[set[int]], prefix: str) -> None:
    for row, positions in enumerate(table.column("positions").to_pylist()):
        ensure(all(a < b for a, b in zip(positions, positions[1:])), f"{prefix}: row {row} is not ascending")
        ensure(maskable[row].issuperset(positions), f"{prefix}: row {row} masks a special token or none at all")


def check_rows(table: pa.Table, split: str) -> None:
    ensure(np.array_equal(column(table, "row"), np.arange(len(table))), f"{split}: rows are not 0, 1, 2, ...")


def same_rows(table: pa.Table, source: pa.Table, split: str) -> None:
    ensure(len(table) == len(source), f"{split}: {len(table)} rows, tokens {len(source)}")


def same_lengths(table: pa.Table, first: str, *others: str) -> np.ndarray:
    lengths = list_lengths(table, first)
    for other in others:
        ensure(np.array_equal(lengths, list_lengths(table, other)), f"{first} and {other} differ in length")
    return lengths


def same_in_duckdb(files: list[str], table: pa.Table, *names: str) -> None:
    """DuckDB reads the same number of rows and the same values as pyarrow."""
    query = ", ".join(f"sum(list_sum({name}::DOUBLE[]))" for name in names)
    rows, *sums = duckdb.execute(f"SELECT count(*), {query} FROM read_parquet(?)", [files]).fetchone()
    ensure(rows == len(table), f"DuckDB reads {rows} rows, pyarrow {len(table)}")
    for name, total in zip(names, sums):
        expected = np.nansum(flat(table, name.strip('"')).astype(np.float64))
        ensure(math.isclose(total, expected, rel_tol=1e-9), f"{name}: DuckDB adds up {total}, pyarrow {expected}")


def read(files: Iterable[str]) -> pa.Table:
    # Each part by itself: a folder read as one data set would take on columns from its path.
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def column(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).to_numpy()


def flat_array(table: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays([chunk.flatten() for chunk in table.column(name).chunks])


def flat(table: pa.Table, name: str) -> np.ndarray:
    return flat_array(table, name).to_numpy(zero_copy_only=False)


def list_lengths(table: pa.Table, name: str) -> np.ndarray:
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in table.column(name).chunks])


def ensure(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Mismatch(otherwise)


if __name__ == "__main__":
    main()
