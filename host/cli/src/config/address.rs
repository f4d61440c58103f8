//! An address to listen on, as it is written in a file and on the command line.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads an address.
///
/// # Errors
/// It is none: what to write instead.
pub(crate) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "no socket address: write an IP address and a port, like 127.0.0.1:8080")
}

/// The same in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressText(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for AddressText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;
        impl Visitor<'_> for AddressVisitor {
            type Value = AddressText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a socket address such as \"127.0.0.1:8080\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<AddressText, E> {
                address(text).map(AddressText).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(AddressVisitor)
    }
}
