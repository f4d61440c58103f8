//! Names and numbers that are made of what a request says: `tenant-{header:x-tenant}`, `{header:x-cost|1}`.
//!
//! | Place | Stands for |
//! |---|---|
//! | `{header:NAME}` | the value of a header that is there once |
//! | `{path:N}` | the N-th segment of the path, from 0, as it is written |
//! | `{method}` | the method: `GET` |
//! | `{host}` | the host that was asked, with its port if one was named, in lower case |
//!
//! `{header:x-tenant|anonymous}`: what follows `|` stands in where the request has none, or an empty one; so with the
//! others.
//!
//! Whatever a request brings is one part of one name: it is refused, and never changed, unless it is of the alphabet of
//! names, so two tenants never share a counter, and none reaches a counter of another shape.
//!
//! A number is of the digits 0 to 9 alone, in the template as in what the request brings: zeros may stand in front, and no
//! sign. Method and host make none.

use std::num::NonZeroU32;
use std::str::FromStr;

/// The longest name, as the contract has it.
const MAX_NAME: usize = 128;

/// What is known of a request.
pub(crate) trait Facts {
    /// All values of a header.
    fn headers(&self, name: &str) -> Vec<Vec<u8>>;
    /// Path and query.
    fn target(&self) -> Option<String>;
    /// Whom it was sent to, where that stands beside the headers.
    fn authority(&self) -> Option<String>;
    /// Its method.
    fn method(&self) -> String;
}

/// A name with places in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

/// A number, as it stands or with places in it.
#[derive(Debug)]
pub(crate) enum Number<T> {
    Plain(T),
    Made(Template),
}

/// What a [`Number`] may be.
pub(crate) trait Bounded: Copy + FromStr {
    /// As a message names it, with its bounds.
    const NOUN: &'static str;
}

impl Bounded for NonZeroU32 {
    const NOUN: &'static str = "number from 1 to 4294967295";
}

impl Bounded for u8 {
    const NOUN: &'static str = "number from 0 to 255";
}

/// What a template makes: as a message names it, and the bytes that it may have.
struct Kind {
    noun: &'static str,
    has: fn(&u8) -> bool,
}

const NAME: Kind =
    Kind { noun: "name", has: |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'@' | b'-') };

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Source, Option<String>),
}

#[derive(Debug, PartialEq, Eq)]
enum Source {
    Header(String),
    Path(usize),
    Method,
    Host,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a name is empty".to_owned());
        }
        Self::of(&NAME, text)
    }
}

impl<T: Bounded> FromStr for Number<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('{') {
            // `parse` takes a `+` as well.
            let digits = Self::KIND.odd(text.as_bytes()).is_none();
            let number = text.parse::<T>().ok().filter(|_| digits);
            return number.map(Self::Plain).ok_or_else(|| format!("`{text}`: it is not a {}", T::NOUN));
        }
        let template = Template::of(&Self::KIND, text)?;
        if template.0.iter().any(|piece| matches!(piece, Piece::Place(Source::Method | Source::Host, _))) {
            return Err(format!("`{text}`: a number is made of `{{header:NAME}}` and `{{path:N}}` alone"));
        }
        if template.without().is_some_and(|number| number.parse::<T>().is_err()) {
            return Err(format!("`{text}`: where a request has no such thing, it is no {}", T::NOUN));
        }
        Ok(Self::Made(template))
    }
}

impl<T: Bounded> Number<T> {
    const KIND: Kind = Kind { noun: T::NOUN, has: u8::is_ascii_digit };

    /// The number for one request.
    ///
    /// # Errors
    /// What the request lacks, or brings that is no such number.
    pub(crate) fn fill(&self, request: &impl Facts) -> Result<T, String> {
        match self {
            Self::Plain(number) => Ok(*number),
            Self::Made(template) => {
                let digits = template.made(&Self::KIND, request)?;
                digits.parse::<T>().map_err(|_| format!("the {} makes no {}", template.sources(), T::NOUN))
            }
        }
    }
}

impl Kind {
    fn literal(&self, text: &str) -> Result<String, String> {
        match self.odd(text.as_bytes()) {
            Some(odd) => Err(format!("`{text}`: a {} cannot have the byte 0x{odd:02x}", self.noun)),
            None => Ok(text.to_owned()),
        }
    }

    /// The first byte that it cannot have.
    fn odd(&self, text: &[u8]) -> Option<u8> {
        text.iter().copied().find(|byte| !(self.has)(byte))
    }
}

impl Template {
    fn of(kind: &Kind, text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (place, behind) = after.split_once('}').ok_or_else(|| format!("`{text}`: a `{{` is never closed"))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(kind.literal(before)?));
            }
            pieces.push(place_of(kind, place)?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(kind.literal(rest)?));
        }
        let template = Self(pieces);
        // Then a request that lacks it would be blamed for what it cannot mend.
        if template.without().is_some_and(|made| made.is_empty()) {
            return Err(format!(
                "`{text}`: nothing is left of it where a request has no such thing; write a {} behind `|`",
                kind.noun
            ));
        }
        Ok(template)
    }

    /// The name for one request.
    ///
    /// # Errors
    /// What the request lacks, or brings that is no name.
    pub(crate) fn fill(&self, request: &impl Facts) -> Result<String, String> {
        let name = self.made(&NAME, request)?;
        match name.len() {
            1..=MAX_NAME => Ok(name),
            long => Err(format!("the request makes a name of {long} bytes; it must have 1 to {MAX_NAME}")),
        }
    }

    fn made(&self, kind: &Kind, request: &impl Facts) -> Result<String, String> {
        let mut made = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => made.push_str(text),
                Piece::Place(source, default) => made.push_str(&source.value(kind, request, default.as_deref())?),
            }
        }
        Ok(made)
    }

    /// What it makes of a request that has no such thing. `None`: such a request is refused.
    fn without(&self) -> Option<String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Place(_, default) => default.as_deref(),
        });
        pieces.collect()
    }

    /// Where it looks, as an answer to a client names it.
    fn sources(&self) -> String {
        let named = self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Place(source, _) => Some(source.named()),
        });
        named.collect::<Vec<_>>().join(" with ")
    }
}

fn place_of(kind: &Kind, place: &str) -> Result<Piece, String> {
    let (source, default) = match place.split_once('|') {
        Some((source, default)) => (source, Some(kind.literal(default)?)),
        None => (place, None),
    };
    let unknown = || format!("`{{{place}}}` is none of `{{header:NAME}}`, `{{path:N}}`, `{{method}}` and `{{host}}`");
    let source = match source.split_once(':') {
        Some(("header", name)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Source::Header(name.to_ascii_lowercase())
        }
        Some(("path", number)) => Source::Path(number.parse().map_err(|_| unknown())?),
        None if source == "method" => Source::Method,
        None if source == "host" => Source::Host,
        _ => return Err(unknown()),
    };
    Ok(Piece::Place(source, default))
}

impl Source {
    fn value(&self, kind: &Kind, request: &impl Facts, default: Option<&str>) -> Result<String, String> {
        let found = self.look_up(request)?.filter(|value| !value.is_empty());
        let Some(value) = found else {
            return default.map(str::to_owned).ok_or_else(|| format!("the request has no {}", self.named()));
        };
        match kind.odd(&value) {
            Some(odd) => Err(format!("the {} has the byte 0x{odd:02x}, which no {} can have", self.named(), kind.noun)),
            // All of it is ASCII.
            None => Ok(String::from_utf8_lossy(&value).into_owned()),
        }
    }

    fn look_up(&self, request: &impl Facts) -> Result<Option<Vec<u8>>, String> {
        Ok(match self {
            Self::Header(name) => once(request, name)?,
            Self::Path(number) => request.target().and_then(|target| {
                let path = target.split('?').next().unwrap_or_default();
                path.strip_prefix('/')?.split('/').nth(*number).map(|segment| segment.as_bytes().to_vec())
            }),
            Self::Method => Some(request.method().into_bytes()),
            Self::Host => {
                let host = match request.authority() {
                    Some(authority) => Some(authority.into_bytes()),
                    None => once(request, "host")?,
                };
                host.map(|host| host.to_ascii_lowercase())
            }
        })
    }

    /// As an answer to a client names it.
    fn named(&self) -> String {
        match self {
            Self::Header(name) => format!("header `{name}`"),
            Self::Path(number) => format!("path segment {number}"),
            Self::Method => "method".to_owned(),
            Self::Host => "host".to_owned(),
        }
    }
}

/// Of a header that is there twice, nobody knows which one is meant.
fn once(request: &impl Facts, name: &str) -> Result<Option<Vec<u8>>, String> {
    let mut values = request.headers(name);
    if values.len() > 1 {
        return Err(format!("the request has the header `{name}` more than once"));
    }
    Ok(values.pop())
}
