//! Images of a document as parts of its page.

use std::path::Path;

use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use pulldown_cmark::{Event, Tag, TagEnd};

use crate::escape::escaped;

/// What a drawing must not have, since the page has neither scripts nor a network.
const FOREIGN: [&str; 5] = ["<script", "<foreignObject", "href=", "url(", "@import"];

/// Puts SVG files in the place of the images that name them.
pub(super) fn inline<'a>(events: Vec<Event<'a>>, folder: &Path) -> anyhow::Result<Vec<Event<'a>>> {
    let (mut shown, mut rest) = (vec![], events.into_iter());
    while let Some(event) = rest.next() {
        let Event::Start(Tag::Image { dest_url, .. }) = event else {
            shown.push(event);
            continue;
        };
        let inside: Vec<_> =
            rest.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::Image))).collect();
        let (alt, svg) = (escaped(&words(&inside)), read(&dest_url, folder)?);
        shown.push(Event::InlineHtml(
            format!("<span class=\"figure\" role=\"img\" aria-label=\"{alt}\">{svg}</span>").into(),
        ));
    }
    Ok(shown)
}

/// The drawing, without what stands before it in a file of its own.
fn read(link: &str, folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(link);
    let fault = |message| Fault::input(message).remedy("name an SVG file in or below the document's folder");
    if path.extension().is_none_or(|ending| ending != "svg") || link.contains("://") {
        return Err(fault(format!("the image {link} is no local SVG file")).into());
    }
    let text = fs::read_to_string(&path).map_err(|error| fault(unreadable(&path, &error)))?;
    if let Some(foreign) = FOREIGN.iter().find(|foreign| text.contains(*foreign)) {
        return Err(Fault::input(format!("{}: `{foreign}` in a drawing", path.display()))
            .remedy("a page has no scripts and no network: take it out")
            .into());
    }
    let start = text.find("<svg").ok_or_else(|| fault(format!("{}: no SVG file", path.display())))?;
    Ok(text[start..].trim_end().replace('\n', ""))
}

fn words(events: &[Event<'_>]) -> String {
    let words = events.iter().filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(&**text),
        Event::SoftBreak => Some(" "),
        _ => None,
    });
    words.collect()
}
