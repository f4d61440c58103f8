//! Numbers whose bounds are not those of their type: what is no such number is told the bounds. What is only too large is left to the
//! request, which says so in its own words.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};
use weir_engine::{MAX_BATCH, MAX_WEIGHT};

/// From 1 to `most`, or `null`; `top` is the largest that its type holds.
#[derive(Clone, Copy)]
struct Number {
    most: u32,
    top: u32,
}

impl<'de> Visitor<'de> for Number {
    type Value = Option<NonZeroU32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 1 to {}", self.most)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let fits = u32::try_from(number).ok().filter(|number| *number <= self.top).and_then(NonZeroU32::new);
        fits.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

/// Reads a number of leases.
pub(super) fn batch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    deserializer.deserialize_option(Number { most: MAX_BATCH, top: u32::MAX })
}

/// Reads a weight.
pub(super) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    let number = Number { most: MAX_WEIGHT.into(), top: u16::MAX.into() };
    let weight = deserializer.deserialize_option(number)?;
    // None is larger than the type.
    Ok(weight.map(|weight| NonZeroU16::try_from(weight).unwrap_or(NonZeroU16::MAX)))
}
