//! Objects inside of others. serde also reads them from a list of their values, in the order of their fields: an order that no
//! client should have to know, and that changes whenever a field is added. Here they are objects and nothing else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Reads a list of objects.
pub(super) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// Reads an object that may be `null`.
pub(super) fn optional<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// Reads an object that is there, and may be `null`.
pub(super) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    optional(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use crate::api::{AcquireBody, BatchBody, CheckBody, VerbBody};
    use serde::de::DeserializeOwned;

    fn reads<T: DeserializeOwned>(json: &str) -> Result<(), String> {
        serde_json::from_str::<T>(json).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        for (read, json) in [
            (reads::<AcquireBody> as fn(&str) -> _, r#"{"scope":"a","targets":[["b",null]]}"#),
            (reads::<AcquireBody>, r#"{"scope":"a","flow-controls":[["k",1,[]]]}"#),
            (reads::<CheckBody>, r#"{"scope":"a","targets":[["b",null]]}"#),
            (reads::<CheckBody>, r#"{"scope":"a","flow-controls":[["k",1,[]]]}"#),
            (reads::<BatchBody>, r#"{"changes":[[null,null,"a",null,false]]}"#),
            (reads::<BatchBody>, r#"{"changes":[{"put":["a",1,[],null,null,null,null,false,"",false]}]}"#),
            (reads::<BatchBody>, r#"{"changes":[{"put":{"pattern":"a","shadow-limits":[1,[],null,null,null]}}]}"#),
            (reads::<BatchBody>, r#"{"changes":[{"patch":["a"]}]}"#),
            (reads::<BatchBody>, r#"{"changes":[{"patch":{"pattern":"a","shadow-limits":[1,[],null,null,null]}}]}"#),
            (reads::<VerbBody>, r#"{"verb":"pin","limits":[1,[],null,null,null]}"#),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains("invalid type: sequence, expected"), "{json}: {error}");
        }
        reads::<AcquireBody>(r#"{"scope":"a","targets":[{"scope":"b"}],"flow-controls":[{"key":"k"}]}"#).unwrap();
        reads::<BatchBody>(r#"{"changes":[{"patch":{"pattern":"a","shadow-limits":null}}]}"#).unwrap();
        reads::<BatchBody>(r#"{"changes":[{"put":{"pattern":"a","shadow-limits":{"concurrency":1}}}]}"#).unwrap();
        reads::<VerbBody>(r#"{"verb":"pin","limits":{"concurrency":1}}"#).unwrap();
    }
}
