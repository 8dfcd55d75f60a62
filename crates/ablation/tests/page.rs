//! A document of the project as a page: ids, links, drawings, and what must not be in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Result;
use fs_err as fs;
use tempfile::TempDir;

const DRAWING: &str = "<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\">\n<rect width=\"9\" height=\"9\"/>\n</svg>\n";
const DOCUMENT: &str = "# Results

See [below](#what-came-out-of-it), [a page](runs/one.md), [a place on it](runs/one.md#costs), [no page](two.md),
[this one](notes.md#results) and [elsewhere](https://example.org/x.md).

## What came out, of *it*?

| a | b |
|---|--:|
| `key` | 1.5 |

![loss of \"a\" < b](runs/loss.svg)
";

/// A folder with a document, a report and a drawing.
fn world(document: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("runs"))?;
    fs::write(path("notes.md"), document)?;
    fs::write(path("two.md"), "# Two\n")?;
    fs::write(path("runs/one.md"), "# One\n")?;
    fs::write(path("runs/one.html"), "one")?;
    fs::write(path("runs/loss.svg"), DRAWING)?;
    Ok(folder)
}

fn page(args: &[&Path]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entromask-ablation"));
    Ok(command.arg("page").args(args).env_remove("RUST_LOG").output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into()
}

/// Neither a script nor anything that a browser would fetch.
fn check_self_contained(page: &str) {
    for foreign in ["<script", "src=", "@import", "url(", "<link", "<img", "<iframe"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn ids_links_and_drawings_are_those_of_the_page() -> Result<()> {
    let folder = world(DOCUMENT)?;
    let output = page(&[&folder.path().join("notes.md")])?;
    assert!(output.status.success(), "{}", said(&output));
    let html = fs::read_to_string(folder.path().join("notes.html"))?;
    assert!(html.contains("<title>Results</title>") && html.contains("<h1 id=\"results\">"), "{html}");
    assert!(html.contains("<h2 id=\"what-came-out-of-it\">"), "{html}");
    let links =
        ["#what-came-out-of-it", "runs/one.html", "runs/one.html#costs", "two.md", "notes.html#results"];
    for link in links.into_iter().chain(["https://example.org/x.md"]) {
        assert!(html.contains(&format!("href=\"{link}\"")), "{link}: {html}");
    }
    let figure = "aria-label=\"loss of &quot;a&quot; &lt; b\"><svg xmlns=\"http://www.w3.org/2000/svg\"";
    assert!(html.contains(figure) && !html.contains("<?xml"), "{html}");
    assert!(html.contains("<td style=\"text-align: right\">1.5</td>"), "{html}");
    check_self_contained(&html);
    Ok(())
}

#[test]
fn the_committed_results_make_a_page() -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("results.html");
    let output = page(&[&docs.join("results.md"), Path::new("--out"), &out])?;
    assert!(output.status.success(), "{}", said(&output));
    let html = fs::read_to_string(out)?;
    assert!(html.contains("href=\"results/cpu-first.html\"") && html.contains("<h2 id="));
    check_self_contained(&html);
    let committed = fs::read_to_string(docs.join("results.html"))?;
    assert!(html == committed, "docs/results.html is not that of docs/results.md: run `make results-page`");
    Ok(())
}

#[test]
fn mistakes_name_file_and_remedy() -> Result<()> {
    let cases = [
        ("[x](#nowhere)\n\n# Here\n", "the link #nowhere leads to no heading", "#here"),
        ("![x](runs/none.svg)\n", "runs/none.svg: no such file", "SVG file"),
        ("![x](https://example.org/x.svg)\n", "is no local SVG file", "SVG file"),
        ("![x](runs/bad.svg)\n", "`<script` in a drawing", "no scripts"),
    ];
    for (document, error, remedy) in cases {
        let folder = world(document)?;
        fs::write(folder.path().join("runs/bad.svg"), "<svg><script/></svg>")?;
        let output = page(&[&folder.path().join("notes.md")])?;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let words = said(&output);
        assert!(words.contains("notes.md") && words.contains(error) && words.contains(remedy), "{words}");
        assert!(!folder.path().join("notes.html").exists());
    }
    Ok(())
}

#[test]
fn a_document_that_is_not_there_and_one_that_would_be_replaced_are_refused() -> Result<()> {
    let missing = page(&[Path::new("nowhere/notes.md")])?;
    assert_eq!(missing.status.code(), Some(3), "{}", said(&missing));
    assert!(said(&missing).contains("nowhere/notes.md: no such file"), "{}", said(&missing));
    let folder = world("# T\n")?;
    let file: PathBuf = folder.path().join("runs/one.html");
    let same = page(&[&file])?;
    assert_eq!(same.status.code(), Some(2), "{}", said(&same));
    assert_eq!(fs::read_to_string(file)?, "one");
    let (document, detour) = (folder.path().join("notes.md"), folder.path().join("runs/../notes.md"));
    let same = page(&[&document, Path::new("--out"), &detour])?;
    assert_eq!(same.status.code(), Some(2), "{}", said(&same));
    assert_eq!(fs::read_to_string(document)?, "# T\n");
    Ok(())
}
