//! A report as one self-contained HTML page, and what such pages have in common.

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::document::Document;
use super::inline::{self, Part};
use crate::escape::escaped;

/// The page; plots are inline SVG, and there is no script.
pub(super) fn render(document: &Document) -> anyhow::Result<String> {
    fill("ablation.html", document)
}

/// A template with the style that all pages have.
pub(crate) fn fill(template: &str, content: &impl Serialize) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("ablation.html", include_str!("../../templates/ablation.html"))?;
    environment.add_template("prose.html", include_str!("../../templates/prose.html"))?;
    // No template: braces mean something else in it.
    environment
        .add_global("style", Value::from_safe_string(include_str!("../../templates/style.css").into()));
    environment.add_filter("code", code);
    environment.add_filter("words", words);
    environment.get_template(template)?.render(Serde(content)).context("failed to make the page")
}

/// Each word by itself, so that a line can end between two of them, and within a key, a path or a flag only where that is
/// longer than a line.
pub(crate) fn words(text: &str) -> Value {
    let words = escaped(text).split(' ').map(|word| format!("<span>{word}</span>")).collect::<Vec<_>>();
    Value::from_safe_string(words.join(" "))
}

/// Text whose words between backticks are code, as in Markdown.
fn code(text: &str) -> Value {
    let html = |part: Part<'_>| match part {
        Part::Plain(text) => escaped(text),
        Part::Code(text) => format!("<code>{}</code>", escaped(text)),
    };
    Value::from_safe_string(inline::parts(text).into_iter().map(html).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_are_code_and_angles_are_escaped() {
        assert_eq!(
            code("a < b in `x.toml`, `y`").to_string(),
            "a &lt; b in <code>x.toml</code>, <code>y</code>"
        );
        assert_eq!(code("``a`<b>`` it`s").to_string(), "<code>a`&lt;b&gt;</code> it`s");
    }

    #[test]
    fn lines_of_commands_end_between_words() {
        assert_eq!(words("a --b <c>").to_string(), "<span>a</span> <span>--b</span> <span>&lt;c&gt;</span>");
        assert_eq!(words("7281d48717ef167a").to_string(), "<span>7281d48717ef167a</span>");
    }
}
