//! A report as one self-contained HTML page.

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};

use super::document::Document;

/// The page; plots are inline SVG, and there is no script.
pub(super) fn render(document: &Document) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("ablation.html", include_str!("../../templates/ablation.html"))?;
    // No template: braces mean something else in it.
    environment
        .add_global("style", Value::from_safe_string(include_str!("../../templates/style.css").into()));
    environment.add_filter("code", code);
    environment.get_template("ablation.html")?.render(Serde(document)).context("failed to make the page")
}

/// Text whose words between backticks are code, as in Markdown.
fn code(text: &str) -> Value {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let parts = escaped.split('`').enumerate();
    let html =
        parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.into() });
    Value::from_safe_string(html.collect())
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
    }
}
