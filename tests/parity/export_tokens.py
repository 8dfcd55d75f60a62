"""Exports and checks reference token ids from the PyPI package `tokenizers`.

    python tests/parity/export_tokens.py --check          # compare with the committed reference values
    python tests/parity/export_tokens.py --export         # write them anew, with the committed tokenizers
    python tests/parity/export_tokens.py --train --export # train the two small tokenizers anew first

1,000 varied lines are encoded without special tokens by one tokenizer of each family. The values lie in
`tests/fixtures/tokens/`, whose README.md describes the files and what word ids and offsets mean in them.
"""

import argparse
import io
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, decoders, trainers
from tokenizers import AddedToken, __version__

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "data/sample/corpus"
LINES = ROOT / "tests/fixtures/tokens/lines.jsonl"
TRAINED = ROOT / "tests/fixtures/tokenizers"
FAMILIES = {
    "wordpiece": ROOT / "data/tokenizers/bert-base-uncased/tokenizer.json",
    "byte_bpe": TRAINED / "byte_bpe/tokenizer.json",
    "unigram": TRAINED / "unigram/tokenizer.json",
}
COUNT = 1_000
FROM_CORPUS = 400
LONGEST = 400  # characters of a corpus line
VOCABULARY = 4_096
SEED = 20_261
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def main() -> None:
    args = arguments()
    if args.train:
        train()
    if args.export:
        export()
    if args.check:
        check()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the byte-level BPE and Unigram tokenizers on the sample corpus")
    parser.add_argument("--export", action="store_true", help="write the lines and the reference values")
    parser.add_argument("--check", action="store_true", help="compare the committed reference values with the installed tokenizers")
    args = parser.parse_args()
    if not (args.train or args.export or args.check):
        parser.error("choose --train, --export or --check")
    return args


def export() -> None:
    lines = list(itertools.islice(unique(select()), COUNT))
    assert len(lines) == COUNT, f"only {len(lines)} different lines"
    LINES.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8", newline="\n")
    for family, path in FAMILIES.items():
        tokenizer = Tokenizer.from_file(str(path))
        rows = "".join(json.dumps(encode(tokenizer, line), separators=(",", ":")) + "\n" for line in lines)
        packed = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(rows.encode())
        reference(family).write_bytes(packed)
        print(f"{family}: {len(lines)} lines, {len(packed)} bytes, tokenizers {__version__}")


def check() -> None:
    lines = [json.loads(line) for line in LINES.read_text(encoding="utf-8").split("\n")[:-1]]
    assert len(lines) == COUNT, f"{LINES}: {len(lines)} lines, expected {COUNT}"
    for family, path in FAMILIES.items():
        tokenizer = Tokenizer.from_file(str(path))
        rows = read_zstd(reference(family)).decode().splitlines()
        assert len(rows) == len(lines), f"{reference(family)}: {len(rows)} rows for {len(lines)} lines"
        wrong = [index for index, line in enumerate(lines) if json.loads(rows[index]) != encode(tokenizer, line)]
        if wrong:
            sys.exit(f"{family}: {len(wrong)} lines differ from {reference(family)}, first {lines[wrong[0]]!r}")
        print(f"{family}: {len(lines)} lines as committed (tokenizers {__version__})")


def encode(tokenizer: Tokenizer, line: str) -> dict[str, list]:
    """Ids, word ids and UTF-8 byte spans; Python counts characters, so the spans are converted."""
    encoding = tokenizer.encode(line, add_special_tokens=False)
    at_byte = [0, *itertools.accumulate(len(char.encode("utf-8")) for char in line)]
    return {
        "ids": encoding.ids,
        "words": encoding.word_ids,
        "offsets": [[at_byte[begin], at_byte[end]] for begin, end in encoding.offsets],
    }


def reference(family: str) -> Path:
    return LINES.with_name(f"{family}.jsonl.zst")


def train() -> None:
    for name, build in {"byte_bpe": byte_bpe, "unigram": unigram}.items():
        folder = TRAINED / name
        folder.mkdir(parents=True, exist_ok=True)
        build(list(corpus_lines())).save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(special_names(), indent=2) + "\n")


def byte_bpe(lines: list[str]) -> Tokenizer:
    """RoBERTa's settings at a small vocabulary: no normaliser, no prefix space, trimmed offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=special_tokens(), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def unigram(lines: list[str]) -> Tokenizer:
    """XLM-R's shape: NMT and NFKC normalisation, spaces squeezed, Metaspace with a prefix, <s> ... </s>."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special_tokens(), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def special_tokens() -> list[AddedToken]:
    # The mask takes the space before it, as in RoBERTa and XLM-R.
    return [AddedToken(token, special=True, normalized=False, lstrip=token == "<mask>") for token in SPECIAL]


def special_names() -> dict[str, str]:
    names = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return {"tokenizer_class": "PreTrainedTokenizerFast"} | dict(zip(names, SPECIAL))


def select() -> Iterator[str]:
    """Hand-written lines, then lines of the corpus, then as many made-up ones as asked for."""
    yield from HAND_WRITTEN
    rng = random.Random(SEED)
    yield from rng.sample([line for line in corpus_lines() if 0 < len(line) <= LONGEST], FROM_CORPUS)
    while True:
        for make in GENERATORS:
            yield make(rng)


def unique(lines: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for line in lines:
        if line not in seen:
            seen.add(line)
            yield line


def corpus_lines() -> Iterator[str]:
    for path in sorted(CORPUS.glob("*.txt.zst")):
        yield from (line for line in read_zstd(path).decode("utf-8").split("\n") if line)


def read_zstd(path: Path) -> bytes:
    with zstandard.open(path, "rb") as stream:
        return io.BytesIO(stream.read()).getvalue()


HAND_WRITTEN = [
    "", " ", "  ", "\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00", "\ufffd", "a", "A", ".", "'", '"', "##", "▁", "Ġ", "é", "e\u0301",
    "The quick brown fox jumps over the lazy dog.", " leading space", "trailing space ", "two  spaces   three    four",
    "tab\tbetween\t\tcells", "line\nbreak", "carriage\rreturn", "both\r\nof them", "\n\n\n", "form\x0cfeed and vertical\x0btab",
    "nul\x00inside", "bell\x07 escape\x1b[31mred\x1b[0m", "delete\x7f and c1 \x85 \x9f", "file\x1cgroup\x1drecord\x1eunit\x1fend",
    "soft\u00adhyphen", "zero\u200bwidth\u200cnon\u200djoiner", "\ufeffbyte order mark first", "line\u2028separator\u2029paragraph",
    "nbsp\u00a0between\u00a0words", "narrow\u202fspace thin\u2009space ideographic\u3000space em\u2003space", "word\u2060joiner",
    "café naïve façade Zürich Ærø Łódź İstanbul ıIiİ", "cafe\u0301 nai\u0308ve fac\u0327ade Zu\u0308rich", "ﬁne ﬂow ﬀ ﬃ ﬄ ﬅ",
    "STRASSE straße ẞ", "ΣΊΣΥΦΟΣ Σίσυφος ς σ", "Ångström Å (A ring) \u212b (sign)", "½ ¼ ² ³ ™ ℃ № ㎏ ㈱ ①②③", "Ｆｕｌｌ ｗｉｄｔｈ １２３",
    "Z̸̡̢̛̪̟̺͍̗a̷̢̛̗̯͓l̴̨̛̞̣̟g̶̢̧̛o̵̡̧", "x" + "\u0301" * 30, "Vietnamese: Tiếng Việt, Nguyễn, Đường", "Yorùbá ẹ̀kọ́", "Đorđe Šešelj žvaće",
    "中文分词测试", "中文 with English 混排 text", "日本語のテスト、ひらがなとカタカナ。", "한국어 문장입니다.", "한글 as jamo \u1112\u1161\u11ab\u1100\u1173\u11af",
    "𠀀𠀁𠮷野家 (beyond the basic plane)", "ไม่มีเว้นวรรคในภาษาไทย", "हिन्दी में एक वाक्य", "தமிழ் எழுத்து", "ქართული ენა", "Հայերեն լեզու",
    "Русский текст, ё и е, й и и\u0306", "Ελληνικά με τόνους: ά έ ή ί ό ύ ώ", "ἐν ἀρχῇ ἦν ὁ λόγος", "ẓelem, ḥokmah, ḳadosh", "አማርኛ",
    "שלום עולם", "שָׁלוֹם עֲלֵיכֶם", "مرحبا بالعالم", "اَلْعَرَبِيَّةُ", "mixed \u202bעברית\u202c and English", "\u200fright\u200eleft marks", "ـــكشيدةـــ",
    "😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈 🏴‍☠️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪🇫🇷🇯🇵", "1️⃣ #️⃣ ❤️ ❤", "text😀without😀spaces", "👩🏿‍🚀 flies to 🚀", "☃️ ☎ ✈︎ ✈️",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒻𝒶𝓃𝒸𝓎 𝟘𝟙𝟚", "ᴛɪɴʏ ᶜᵃᵖˢ", "€ £ ¥ ₹ ₿ ¢ $", "∑∫√∞≈≠≤≥ ∀x∈ℝ", "← ↑ → ↓ ⇒", "░▒▓█ ┌─┐", "\ue000\uf8ff private use", "\U000e0001 tag", "\ufdd0 \U0001ffff noncharacters",
    "[MASK]", "a [MASK] in text", "[CLS] hello [SEP]", "[mask] [ MASK ]", "<mask>", "a <mask> in text", "a<mask>b", "<s> hello </s>", "<unk> <pad>", "[UNK][PAD]",
    "it's don't we'll they've I'd you're she'S", "it’s don’t", "rock'n'roll 'tis O'Neill", "“curly” ‘quotes’ «guillemets» „low“", "``tex'' quotes",
    "...", "…", "?!?!", "!!!!!!!!!!", "----", "—–‐‑‒―", "a-b-c", "and/or", "(((nested)))", "[1][2][3]", "***bold*** _under_", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
    "3.14159", "1,234,567.89", "-42", "+1 (555) 123-4567", "2026-11-23T07:15:00Z", "1/2 3/4", "0xDEADBEEF", "6.02e23", "100%", "#1", "IV. XII.", "1st 2nd 3rd 4th", "٣٤٥ ३४५ 三百",
    "https://example.org/path/to/page.html?query=a%20b&x=1#frag", "mailto:someone@example.org", "ftp://192.168.0.1:21", "C:\\Program Files\\x.exe", "/usr/local/bin", "@handle #hashtag",
    'fn main() { println!("{}", 1 << 3); }', "for (int i = 0; i < n; ++i) a[i] *= 2;", "    indented = {'key': [1, 2, 3]}", "SELECT * FROM t WHERE x >= 1;", "<div class=\"a\">&nbsp;&amp;</div>", "x_i^2 + \\frac{a}{b}", "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "a" * 99, "a" * 100, "a" * 101, "a" * 300, "ab" * 200, "é" * 101, "中" * 120, "😀" * 60, "." * 200, " " * 50, "1" * 120,
    "Donaudampfschifffahrtsgesellschaftskapitän", "pneumonoultramicroscopicsilicovolcanoconiosis", "antidisestablishmentarianism", "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z", "A.B.C. U.S.A. e.g. i.e.", "iPhone McDonald eBay", "Dr. Mr. Mrs. St.",
]

SYLLABLES = "ba be ko lu mi ne ra so ti vu sha tre pli ond ing ers tion ment able".split()
SCRIPTS = ((0x61, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x939), (0x3041, 0x3096), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3))
EMOJI = "😀 👍 👍🏿 👩‍💻 🧑‍🤝‍🧑 ❤️ 🇧🇷 🐈‍⬛ 🎉 ⭐".split()
MARKS = "\u0300\u0301\u0302\u0303\u0308\u030c\u0323\u0327"
SPACES = " \t\u00a0\u2009\u3000\u200b\u202f"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…—–“”‘’«»¿¡§¶·"
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200C, 0x200E, 0x2028, 0xFEFF)]


def word(rng: random.Random) -> str:
    text = "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4)))
    return rng.choice((text, text, text.capitalize(), text.upper()))


def words(rng: random.Random) -> str:
    return "".join(word(rng) + rng.choice((" ", " ", ", ", ". ", "-", "  ")) for _ in range(rng.randint(1, 14)))


def accents(rng: random.Random) -> str:
    return " ".join("".join(c + rng.choice(MARKS) * rng.choice((0, 0, 1, 2)) for c in word(rng)) for _ in range(rng.randint(1, 8)))


def scripts(rng: random.Random) -> str:
    def piece() -> str:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))

    return "".join(piece() + rng.choice(("", " ", ", ")) for _ in range(rng.randint(1, 8)))


def numbers(rng: random.Random) -> str:
    forms = ("{:d}", "{:,}", "{:.3e}", "{:#x}", "${:,.2f}", "{:+d}", "{:d}%")
    values = ((rng.choice(forms), rng.randrange(10 ** rng.randint(1, 12))) for _ in range(rng.randint(1, 8)))
    return rng.choice((" ", "; ", "/")).join(form.format(value) for form, value in values)


def runs(rng: random.Random) -> str:
    return "".join(word(rng) + rng.choice(PUNCTUATION) * rng.randint(1, 6) + rng.choice(("", " ")) for _ in range(rng.randint(1, 8)))


def spaces(rng: random.Random) -> str:
    return "".join(word(rng) + "".join(rng.choices(SPACES, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 8)))


def controls(rng: random.Random) -> str:
    return "".join(rng.choice((word(rng), " ", rng.choice(CONTROLS))) for _ in range(rng.randint(2, 14)))


def emoji(rng: random.Random) -> str:
    return "".join(rng.choice((word(rng), " ", rng.choice(EMOJI), rng.choice(EMOJI))) for _ in range(rng.randint(2, 12)))


def addresses(rng: random.Random) -> str:
    path = "/".join(word(rng) for _ in range(rng.randint(0, 4)))
    return f"see {rng.choice(('https', 'ftp'))}://{word(rng)}.{word(rng)}.org:{rng.randrange(65536)}/{path}?{word(rng)}={rng.random():.6f}"


def code(rng: random.Random) -> str:
    return f"{'    ' * rng.randint(0, 3)}let {word(rng)}_{word(rng)}: [u{2 ** rng.randint(3, 6)}; {rng.randrange(99)}] = {word(rng)}({rng.randrange(999)})?; // {words(rng)}"


def long_words(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(15, 80))) + rng.choice(("", " end", "."))


def code_points(rng: random.Random) -> str:
    def scalar() -> str:
        point = rng.choice((rng.randrange(0x3000), rng.randrange(0x20000)))
        return "?" if 0xD800 <= point < 0xE000 else chr(point)

    return "".join(scalar() for _ in range(rng.randint(1, 24)))


GENERATORS: tuple[Callable[[random.Random], str], ...] = (
    words, accents, scripts, numbers, runs, spaces, controls, emoji, addresses, code, long_words, code_points,
)


if __name__ == "__main__":
    main()
