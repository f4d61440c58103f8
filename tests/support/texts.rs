//! Texts that are a name, and texts that are none: tried wherever a name can be said.
//!
//! A name is 1 to 128 bytes of `A-Z a-z 0-9 _ . : @ -`. What is said of one that is none begins with what it was to be, such as
//! `the scope`, and goes on as here.

/// Names at their bounds.
#[must_use]
pub fn names() -> Vec<String> {
    let alphabet = ('!'..='~').filter(|c| c.is_ascii_alphanumeric() || "_.:@-".contains(*c)).collect();
    vec!["a".to_owned(), "0".to_owned(), "x".repeat(128), alphabet]
}

/// Texts that are no name, and what is said of them. None has a byte that divides names (`/`), nor a `*`.
#[must_use]
pub fn not_names() -> Vec<(String, &'static str)> {
    let texts = [
        ("", "is empty: write 1 to 128 bytes"),
        (" ", "has the byte 0x20 at position 0"),
        ("a b", "has the byte 0x20 at position 1"),
        ("a+b", "has the byte `+` (0x2b) at position 1"),
        ("a%2Fb", "has the byte `%` (0x25) at position 1"),
        ("\\", "has the byte `\\` (0x5c) at position 0"),
        ("\u{e9}t\u{e9}", "has the byte 0xc3 at position 0"),
        ("a\u{438}\u{43c}\u{44f}", "has the byte 0xd0 at position 1"),
        ("\u{540d}", "has the byte 0xe5 at position 0"),
        ("\u{202e}a", "has the byte 0xe2 at position 0"),
    ];
    let mut all: Vec<_> = texts.map(|(text, says)| (text.to_owned(), says)).into();
    all.push(("x".repeat(129), "is 129 bytes long: the most is 128"));
    // As many characters as a name may have bytes.
    all.push(("\u{e9}".repeat(128), "is 256 bytes long: the most is 128"));
    all
}

/// More of them, with bytes that a header or a path cannot carry.
#[must_use]
pub fn control_bytes() -> Vec<(String, &'static str)> {
    let texts = [
        ("\0", "has the byte 0x00 at position 0"),
        ("a\t", "has the byte 0x09 at position 1"),
        ("a\n", "has the byte 0x0a at position 1"),
        ("a\r\nb", "has the byte 0x0d at position 1"),
        ("a\u{1b}[31m", "has the byte 0x1b at position 1"),
        ("a\u{7f}", "has the byte 0x7f at position 1"),
    ];
    texts.map(|(text, says)| (text.to_owned(), says)).into()
}
