//! Messages of readers of JSON and TOML, in words that are not Rust's.

/// The number types that fields have, and the largest that each takes.
const NUMBERS: [(&str, &str); 5] =
    [("u8", "255"), ("u16", "65535"), ("u32", "4294967295"), ("u64", "18446744073709551615"), ("usize", "")];

/// Says which numbers a field takes, where `message` names a type of Rust: of "expected a nonzero u16" it makes "expected a number from 1 to
/// 65535".
#[must_use]
pub fn plainly(message: &str) -> String {
    NUMBERS.iter().fold(message.to_owned(), |message, (name, most)| {
        let upwards = if most.is_empty() { " upwards".to_owned() } else { format!(" to {most}") };
        let message = replace_at_end(
            &message,
            &format!("expected a nonzero {name}"),
            &format!("expected a number from 1{upwards}"),
        );
        replace_at_end(&message, &format!("expected {name}"), &format!("expected a number from 0{upwards}"))
    })
}

/// Replaces `from` where a word ends with it.
fn replace_at_end(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let ends = !part.starts_with(|next: char| next.is_alphanumeric());
        replaced.push_str(if ends { to } else { from });
        replaced.push_str(part);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::plainly;

    #[test]
    fn types_are_said_as_numbers() {
        for (message, plain) in [
            (
                "invalid value: integer `0`, expected a nonzero u32",
                "invalid value: integer `0`, expected a number from 1 to 4294967295",
            ),
            (
                "invalid type: string \"a\", expected u8 at line 1",
                "invalid type: string \"a\", expected a number from 0 to 255 at line 1",
            ),
            (
                "invalid value: integer `-1`, expected a nonzero usize",
                "invalid value: integer `-1`, expected a number from 1 upwards",
            ),
            ("expected u8x, expected a string", "expected u8x, expected a string"),
        ] {
            assert_eq!(plainly(message), plain);
        }
    }
}
