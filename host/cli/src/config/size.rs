//! A size as it is written in a file: `"64MiB"`, or a number of bytes.

use std::fmt;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// What WebAssembly of 32 bits can address.
const MAX_BYTES: u64 = 4 << 30;
/// A page of it: with less no component has any memory.
const MIN_BYTES: u64 = 64 << 10;

/// Bytes of a memory: 64 KiB to 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemorySize(pub(super) usize);

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = MemorySize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", or a number of bytes")
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<MemorySize, E> {
                let within = usize::try_from(bytes).ok().filter(|_| (MIN_BYTES..=MAX_BYTES).contains(&bytes));
                within.map(MemorySize).ok_or_else(|| {
                    E::custom(format_args!("a memory of {bytes} bytes is out of bounds: 64KiB to 4GiB (write MiB or GiB behind a number that is none of bytes)"))
                })
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<MemorySize, E> {
                let bytes = u64::try_from(bytes).map_err(|_| {
                    E::custom(format_args!("a memory of {bytes} bytes is out of bounds: 64KiB to 4GiB (write MiB or GiB behind a number that is none of bytes)"))
                })?;
                self.visit_u64(bytes)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MemorySize, E> {
                let size: ByteSize = text.parse().map_err(|_| {
                    let shown: String = text.chars().take(64).collect();
                    E::custom(format_args!("`{shown}` is not a size: write it like \"64MiB\""))
                })?;
                self.visit_u64(size.as_u64())
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}
