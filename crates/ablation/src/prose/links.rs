//! Where links of a document lead on its page.

use std::path::Path;

use entromask_fault::Fault;
use pulldown_cmark::{CowStr, Event, Tag};

use super::headings::Heading;

/// Checks the links to headings, and lets those to documents that have a page lead to the page. `out` is the page that is
/// being made.
pub(super) fn follow(
    events: &mut [Event<'_>],
    headings: &[Heading],
    folder: &Path,
    out: &Path,
) -> anyhow::Result<()> {
    for event in events {
        let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
        if let Some(name) = dest_url.strip_prefix('#') {
            check(name, headings)?;
        } else if let Some(page) = page_of(dest_url, folder, out) {
            *dest_url = CowStr::from(page);
        }
    }
    Ok(())
}

fn check(name: &str, headings: &[Heading]) -> anyhow::Result<()> {
    if name.is_empty() || headings.iter().any(|heading| heading.id == name) {
        return Ok(());
    }
    let known: Vec<_> = headings.iter().map(|heading| format!("#{}", heading.id)).collect();
    let remedy = format!("link to one of: {}", known.join(", "));
    Err(Fault::input(format!("the link #{name} leads to no heading")).remedy(remedy).into())
}

/// `x.html#there` for `x.md#there`, if there is such a page.
fn page_of(link: &str, folder: &Path, out: &Path) -> Option<String> {
    let (path, place) = link.split_once('#').map_or((link, None), |(path, place)| (path, Some(place)));
    let page = format!("{}.html", path.strip_suffix(".md")?);
    let file = folder.join(&page);
    // An address has no file below the folder.
    let there = file == out || file.is_file();
    there.then(|| place.map_or(page.clone(), |place| format!("{page}#{place}")))
}
