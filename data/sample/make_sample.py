"""Makes the committed sample: a corpus of public-domain books and two small GLUE tasks.

    python data/sample/make_sample.py --books BOOKS.txt.zst --glue GLUE.tar.zst --out data/sample

BOOKS holds one paragraph a line and a blank line between books; GLUE holds the tasks in the official
layout under `glue_data/`. The same inputs give the same bytes: nothing here depends on time or on the
order of a folder, and the rows are drawn with a fixed seed. Needs the PyPI package `zstandard`.
`data/README.md` names the origin and the licence of everything that is written.
"""

import argparse
import io
import random
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

import zstandard

LEVEL = 19
SEED = 20_260
# Without headings a document is closed after so many paragraphs or bytes, whichever comes first.
PARAGRAPHS = 60
BYTES = 16_000


class Book(NamedTuple):
    """One book: its file name, its first words in the source, and where its documents start."""

    name: str
    begins: str
    openings: tuple[str, ...] = ()  # first words of each story or scene; none: split by length
    stops_before: str = ""  # first words of the paragraph where the excerpt ends; none: the whole book


BOOKS = (
    Book("chekhov-the-duel", "It was eight o'clock in the morning—the time when the officers"),
    Book(
        "chesterton-the-wisdom-of-father-brown",
        "The consulting-rooms of Dr Orion Hood",
        openings=(
            "The consulting-rooms of Dr Orion Hood",
            "The great Muscari",
            "M. Maurice Brun and M. Armand Armagnac",
            "Two men appeared simultaneously",
            "Flambeau and his friend the priest were sitting",
            "There is somewhere in Brompton",
            "Mr Edward Nutt, the industrious editor",
            "Father Brown was in no mood",
            "It was one of those chilly",
            "Father Brown was walking home",
            "Mr Calhoun Kidd was",
            "The picturesque city and state",
        ),
    ),
    Book("hossain-sultanas-dream", "One evening I was lounging in an easy chair in my bedroom"),
    Book("liliuokalani-hawaiis-story", "The extinct crater or mountain which forms the background"),
    Book(
        "maimonides-the-guide-for-the-perplexed",
        '"Open ye the gates, that the righteous nation',
        stops_before="We have stated several times that it is our primary object in this treatise",
    ),
    Book(
        "shakespeare-macbeth",
        "Thunder and lightning. Enter three Witches",
        openings=(
            "Thunder and lightning. Enter three Witches",
            "Alarum within. Enter DUNCAN",
            "Thunder. Enter the three Witches",
            "Flourish. Enter DUNCAN",
            "Enter LADY MACBETH, reading a letter",
            "Hautboys and torches. Enter DUNCAN",
            "Hautboys and torches. Enter a Sewer",
            "Enter BANQUO, and FLEANCE bearing a torch",
            "Knocking within. Enter a Porter",
            "Enter ROSS and an old Man",
            "Sennet sounded. Enter MACBETH, as king",
            "Enter LADY MACBETH and a Servant",
            "A banquet prepared",
            "Thunder. Enter the three Witches meeting HECATE",
            "Enter LENNOX and another Lord",
            "Thunder. Enter the three Witches",
            "Enter LADY MACDUFF, her Son, and ROSS",
            "Enter MALCOLM and MACDUFF",
            "Enter a Doctor of Physic",
            "Drum and colours. Enter MENTEITH",
            "Enter MACBETH, Doctor, and Attendants",
            "Drum and colours. Enter MALCOLM, SIWARD and YOUNG SIWARD",
            "Enter MACBETH, SEYTON, and Soldiers",
            "Drum and colours. Enter MALCOLM, SIWARD, MACDUFF",
        ),
    ),
)

# (task, split, rows to draw; None: all of them)
GLUE = (
    ("QNLI", "train", 2_000),
    ("QNLI", "dev", 500),
    ("WNLI", "train", None),
    ("WNLI", "dev", None),
)


def main() -> None:
    args = arguments()
    write_corpus(args.books, args.out / "corpus")
    write_glue(args.glue, args.out / "glue")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, required=True, help="zstd text: a paragraph a line, blank line between books")
    parser.add_argument("--glue", type=Path, required=True, help="zstd tar archive with glue_data/TASK/SPLIT.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives corpus/ and glue/")
    return parser.parse_args()


def write_corpus(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    texts = read_zstd(source).decode("utf-8").split("\n\n")
    for book in BOOKS:
        documents = split(book, paragraphs(book, texts))
        raw = ("\n\n".join("\n".join(document) for document in documents) + "\n").encode("utf-8")
        packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(raw)
        (out / f"{book.name}.txt.zst").write_bytes(packed)
        print(f"{book.name}: {len(documents)} documents, {len(raw)} bytes, {len(packed)} compressed")


def paragraphs(book: Book, texts: list[str]) -> list[str]:
    """The paragraphs of `book`, cut off where its excerpt stops."""
    found = [text for text in texts if text.startswith(book.begins)]
    if len(found) != 1:
        sys.exit(f"{book.name}: {len(found)} books begin with {book.begins!r}, expected one")
    lines = [line.strip() for line in found[0].split("\n") if line.strip()]
    if not book.stops_before:
        return lines
    return lines[: find(book, lines, book.stops_before, 0)]


def split(book: Book, lines: list[str]) -> list[list[str]]:
    """Cuts a book into documents: at its openings where they are known, by length otherwise."""
    starts = openings(book, lines) if book.openings else by_length(lines)
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)])]


def openings(book: Book, lines: list[str]) -> list[int]:
    starts: list[int] = []
    for opening in book.openings:
        starts.append(find(book, lines, opening, starts[-1] + 1 if starts else 0))
    return starts


def by_length(lines: list[str]) -> list[int]:
    starts, size = [0], 0
    for index, line in enumerate(lines):
        if size >= BYTES or index - starts[-1] >= PARAGRAPHS:
            starts.append(index)
            size = 0
        size += len(line.encode("utf-8")) + 1
    # A short rest is no document of its own.
    if len(starts) > 1 and size < BYTES // 4:
        starts.pop()
    return starts


def find(book: Book, lines: list[str], prefix: str, after: int) -> int:
    for index in range(after, len(lines)):
        if lines[index].startswith(prefix):
            return index
    sys.exit(f"{book.name}: no paragraph after number {after} begins with {prefix!r}")


def write_glue(source: Path, out: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(read_zstd(source))) as archive:
        members = {member.name.removeprefix("./"): member for member in archive.getmembers()}
        for task, name, count in GLUE:
            raw = archive.extractfile(members[f"glue_data/{task}/{name}.tsv"]).read()
            header, *rows = raw.removesuffix(b"\n").split(b"\n")
            kept = draw(rows, count, f"{SEED} {task} {name}")
            (out / task).mkdir(parents=True, exist_ok=True)
            (out / task / f"{name}.tsv").write_bytes(b"\n".join([header, *kept]) + b"\n")
            print(f"{task} {name}: {len(kept)} of {len(rows)} rows")


def draw(rows: list[bytes], count: int | None, seed: str) -> list[bytes]:
    """A sample without replacement in the order of the source; labels stay balanced as they come."""
    if count is None:
        return rows
    chosen = random.Random(seed).sample(range(len(rows)), count)
    return [rows[index] for index in sorted(chosen)]


def read_zstd(path: Path) -> bytes:
    with zstandard.open(path, "rb") as stream:
        return stream.read()


if __name__ == "__main__":
    main()
