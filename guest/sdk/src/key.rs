//! Limit keys from text that the guest did not choose.
//!
//! A part of a limit key is 1 to 128 bytes of `[A-Za-z0-9_.:@-]`. User names, card numbers and file names are not always so,
//! and two of them must never share a counter by accident. [`escape`] therefore writes every other byte, and `:` itself, as `:`
//! and two hex digits: different texts stay different.
//!
//! Nothing is validated here: the host does, and answers [`Reason::Invalid`](crate::Reason::Invalid).

/// Builds a limit key of one or two parts from any text.
///
/// ```
/// assert_eq!(weir_guest::limit_key(&["eu", "visa"]), "eu/visa");
/// assert_eq!(weir_guest::limit_key(&["a/b", "50%"]), "a:2fb/50:25");
/// ```
#[must_use]
pub fn limit_key(parts: &[&str]) -> String {
    parts.iter().map(|part| escape(part)).collect::<Vec<_>>().join("/")
}

/// Writes any text as one part of a limit key, or as a scope. Text of letters, digits and `_.@-` stays as it is.
///
/// ```
/// assert_eq!(weir_guest::escape("ada@example.com"), "ada@example.com");
/// assert_eq!(weir_guest::escape("tenant 7"), "tenant:207");
/// ```
#[must_use]
pub fn escape(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@' | b'-') {
            part.push(char::from(byte));
        } else {
            part.push(':');
            part.push(hex(byte >> 4));
            part.push(hex(byte & 15));
        }
    }
    part
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0')
}
