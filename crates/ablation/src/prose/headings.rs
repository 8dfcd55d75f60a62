//! The names of headings, as GitHub gives them.

use std::collections::BTreeMap;

use pulldown_cmark::{Event, Tag, TagEnd};

/// A heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    pub text: String,
    /// What a link to it says behind `#`.
    pub id: String,
}

/// Names all headings, and returns them in order. Of those with equal words the second is `words-1`, the third `words-2`.
pub(super) fn name(events: &mut [Event<'_>]) -> Vec<Heading> {
    let (mut found, mut seen) = (vec![], BTreeMap::<String, u32>::new());
    for at in 0..events.len() {
        let text = words(&events[at + 1..]);
        let Event::Start(Tag::Heading { id, .. }) = &mut events[at] else { continue };
        let slug = slug(&text);
        let before = seen.entry(slug.clone()).or_default();
        let unique = if *before == 0 { slug } else { format!("{slug}-{before}") };
        *before += 1;
        *id = Some(unique.clone().into());
        found.push(Heading { text, id: unique });
    }
    found
}

/// The words up to the end of a heading.
fn words(events: &[Event<'_>]) -> String {
    let inside = events.iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    let words = inside.filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(&**text),
        _ => None,
    });
    words.collect()
}

/// Letters and digits in lower case, `-` for blanks, no punctuation but `-` and `_`.
fn slug(text: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || ['-', '_', ' '].contains(letter);
    text.trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use pulldown_cmark::Parser;

    use super::*;

    #[test]
    fn names_are_those_of_github() {
        let text = "# What `cpu-first` says, in 5 % of cases\n\n## Größe: a_b – c\n\n## Again\n\n### Again\n\n## *Again*!\n";
        let mut events: Vec<_> = Parser::new(text).collect();
        let ids: Vec<_> = name(&mut events).into_iter().map(|heading| heading.id).collect();
        let expected = ["what-cpu-first-says-in-5--of-cases", "größe-a_b--c", "again", "again-1", "again-2"];
        assert_eq!(ids, expected);
        let set = events.iter().filter_map(|event| match event {
            Event::Start(Tag::Heading { id, .. }) => id.as_deref(),
            _ => None,
        });
        assert!(set.eq(expected));
    }
}
