//! What the fuzz targets of files and bodies share: the program's own reader of files, and what must hold of what it accepts.
//!
//! Any bytes are a value, or an error with a place in them; never a panic. What is accepted can be written and read again as the
//! same, and makes a rule book or a typed refusal of one.

#![forbid(unsafe_code)]

#[path = "../../src/config.rs"]
#[expect(dead_code, unused_imports, reason = "the program's, of which only the parser is used here")]
mod config;
#[path = "../../src/error.rs"]
#[expect(dead_code, reason = "the program's; nothing fails here")]
mod error;
#[path = "../../src/output.rs"]
#[expect(dead_code, reason = "the program's; nothing is shown here")]
mod output;

use std::path::Path;

use weir_engine::{Change, RuleBook};
use weir_http::api::{BookView, RuleBody};

/// A file that lies beside this crate's manifest, which stands for any component.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weir.toml");
/// A component that is there.
const COMPONENT: &str = "\n[[component]]\nname = \"the-last-one\"\npath = \"Cargo.toml\"\n";

/// Reads a text as `weir.toml`, as it is and with a component behind it, and judges what comes of it.
///
/// # Panics
/// When something does not hold that must.
pub fn file(text: &str) {
    for text in [text.to_owned(), format!("{text}{COMPONENT}")] {
        match config::parse(Path::new(FILE), &text) {
            Ok(config) => {
                assert!(!config.components.is_empty() || !text.ends_with(COMPONENT));
                batch(&config.rules);
            }
            Err(error) => {
                let shown = error.to_string();
                assert!(shown.starts_with(FILE), "{shown}");
                // No more of a line than a screen takes, and no more of a name than a name.
                assert!(shown.len() < 4_096 + FILE.len(), "{} bytes: {shown}", shown.len());
                let place = shown[FILE.len()..].starts_with(':');
                assert!(place && !shown.contains('\u{1b}'), "{shown:?}");
            }
        }
    }
}

/// Makes a book of changes, and reads it back from how it is shown.
///
/// # Panics
/// When the rules are others then.
pub fn batch(changes: &[Change]) {
    let book = match RuleBook::default().apply(changes, 1) {
        Ok(book) => book,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let shown = serde_json::to_string(&BookView::from(&book)).expect("a book has a form");
    let read: BookView = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!(read.rules.len(), book.rules().count());
    for (read, rule) in read.rules.iter().zip(BookView::from(&book).rules) {
        assert_eq!(*read, rule);
        let kept = book.get(&rule.body.pattern.0).expect("it is in the book");
        assert_eq!(read.body.spec().as_ref(), Ok(&kept.spec), "{shown}");
    }
    rules(read.rules.into_iter().map(|rule| rule.body));
}

/// Writes rules as a file, and reads them again.
///
/// # Panics
/// When they are others then.
pub fn rules(rules: impl IntoIterator<Item = RuleBody>) {
    for rule in rules {
        let text = toml::to_string(&rule).expect("a rule has a form");
        assert_eq!(toml::from_str::<RuleBody>(&text).as_ref(), Ok(&rule), "{text}");
    }
}
