"""Runs the queries that the documents show, against the artifacts that are there.

    python tests/parity/readme_snippets.py [--data DATA] [README.md data/README.md]

A fenced block that follows the comment `<!-- check: duckdb -->` is run as SQL by DuckDB, one that follows
`<!-- check: pyarrow -->` as a Python programme, both in the repository's root, where `data/`, or DATA in its
place, must hold a finished run of the pipeline. Fails if a snippet fails or gives no rows, or if one of the two is not shown.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = re.compile(r"^<!-- check: (duckdb|pyarrow) -->\s*^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("documents", type=Path, nargs="*", default=[ROOT / "README.md", ROOT / "data/README.md"])
    args = parser.parse_args()
    documents, data = [path.resolve() for path in args.documents], args.data.resolve()
    os.chdir(ROOT)
    shown = set()
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for match in SNIPPET.finditer(text):
            engine, code = match.groups()
            code = re.sub(r"\bdata/(?=tokens|entropy|masks|models)", f"{data}/", code)
            where = f"{document.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1} ({engine})"
            rows = run_duckdb(code, where) if engine == "duckdb" else run_python(code, where)
            print(f"{where}: {len(rows)} rows, first {rows[0]}" if rows else f"{where}: no rows")
            shown.add(engine)
            if not rows:
                sys.exit(1)
    if missing := {"duckdb", "pyarrow"} - shown:
        sys.exit(f"no snippet for {', '.join(sorted(missing))} in {', '.join(map(str, documents))}")


def run_duckdb(code: str, where: str) -> list:
    try:
        return duckdb.connect().execute(code).fetchall()
    except duckdb.Error as error:
        sys.exit(f"{where}: {error}")


def run_python(code: str, where: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{where}: exit code {done.returncode}")
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
