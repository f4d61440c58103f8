//! Names that are made of what a request says: `tenant-{header:x-tenant}`.
//!
//! | Place | Stands for |
//! |---|---|
//! | `{header:NAME}` | the value of a header that is there once |
//! | `{path:N}` | the N-th segment of the path, from 0, as it is written |
//! | `{method}` | the method: `GET` |
//! | `{host}` | the host that was asked, with its port if one was named, in lower case |
//!
//! `{header:x-tenant|anonymous}`: what follows `|` stands in where the request has none; so with the others.
//!
//! Whatever a request brings is one part of one name: it is refused, and never changed, unless it is of the alphabet of
//! names, so two tenants never share a counter, and none reaches a counter of another shape.

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
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (place, behind) = after.split_once('}').ok_or_else(|| format!("`{text}`: a `{{` is never closed"))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(literal(before)?));
            }
            pieces.push(place_of(place)?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(literal(rest)?));
        }
        // Then a request that lacks it would be blamed for what it cannot mend.
        let is_empty = |piece: &Piece| matches!(piece, Piece::Place(_, Some(default)) if default.is_empty());
        if pieces.iter().all(is_empty) {
            return Err(format!(
                "`{text}`: nothing is left of it where a request has no such thing; write a name behind `|`"
            ));
        }
        Ok(Self(pieces))
    }
}

fn literal(text: &str) -> Result<String, String> {
    match odd(text.as_bytes()) {
        Some(odd) => Err(format!("`{text}`: a name cannot have the byte 0x{odd:02x}")),
        None => Ok(text.to_owned()),
    }
}

fn place_of(place: &str) -> Result<Piece, String> {
    let (source, default) = match place.split_once('|') {
        Some((source, default)) => (source, Some(literal(default)?)),
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

impl Template {
    /// The name for one request.
    ///
    /// # Errors
    /// What the request lacks, or brings that is no name.
    pub(crate) fn fill(&self, request: &impl Facts) -> Result<String, String> {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Place(source, default) => name.push_str(&source.value(request, default.as_deref())?),
            }
        }
        match name.len() {
            1..=MAX_NAME => Ok(name),
            long => Err(format!("the request makes a name of {long} bytes; it must have 1 to {MAX_NAME}")),
        }
    }
}

impl Source {
    fn value(&self, request: &impl Facts, default: Option<&str>) -> Result<String, String> {
        let found = self.look_up(request)?.filter(|value| !value.is_empty());
        let Some(value) = found else {
            return default.map(str::to_owned).ok_or_else(|| format!("the request has no {}", self.named()));
        };
        match odd(&value) {
            Some(odd) => Err(format!("the {} has the byte 0x{odd:02x}, which no name can have", self.named())),
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

/// The first byte that no name can have.
fn odd(text: &[u8]) -> Option<u8> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'@' | b'-');
    text.iter().copied().find(|byte| !fits(byte))
}
