//! Traces: arrivals from a file, one on each line, in order of time.
//!
//! CSV with a header, or one JSON object on each line (which begins with `{`). The columns, in any order, and the fields:
//!
//! | | |
//! |---|---|
//! | `at` | when, from the beginning of the simulation: seconds (`1.5`) or a duration (`1m30s`) |
//! | `key` | `scope[/l1[/l2]]` |
//! | `hold` | how long it holds what it is granted: seconds or a duration |
//! | `cost`, `priority`, `fairness`, `weight`, `max-wait` | optional; an empty cell says nothing |
//!
//! Lines are read as they are needed, so a trace may be larger than memory.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use weir_limiter::Request;

use super::fields::{self, FieldError, Fields, nanos, shown};
use super::load::{LoadError, Next};
use super::tally::Places;

/// The longest line: three names, eight numbers, and a lot of room.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The columns and fields that there are.
const COLUMNS: [&str; 8] = ["at", "key", "hold", "cost", "priority", "fairness", "weight", "max-wait"];

/// Why a trace cannot be read, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The file cannot be read.
    #[error("{}: cannot read the trace: {reason}", file.display())]
    Read { file: PathBuf, reason: io::Error },
    /// A line is wrong.
    #[error("{}:{line}: {problem}", file.display())]
    Line { file: PathBuf, line: u64, problem: LineError },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("{0}")]
    Csv(String),
    #[error("it is not a JSON object with these fields: {0}")]
    Json(String),
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("there is nothing here: a trace begins with a header, such as at,key,hold, or with a JSON object")]
    Empty,
    #[error("the header has no column `{0}`")]
    NoColumn(&'static str),
    #[error("the header has a column `{0}`, which is none of {columns}", columns = COLUMNS.join(", "))]
    UnknownColumn(String),
    #[error("the header has the column `{0}` twice")]
    SameColumn(&'static str),
    #[error("it has {given} cells, and the header has {columns}")]
    Cells { given: usize, columns: usize },
    #[error("there is no `{0}`")]
    Missing(&'static str),
    #[error("it is before the line above it: sort the trace by `at`")]
    Backwards,
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// A trace, at the line that was read last.
#[derive(Debug)]
pub(crate) struct Trace {
    file: PathBuf,
    lines: Lines,
    at: u64,
    request: Request,
}

#[derive(Debug)]
enum Lines {
    /// With the column in which each of [`COLUMNS`] stands.
    Csv {
        reader: Box<csv::Reader<ShortLines>>,
        record: StringRecord,
        columns: [Option<usize>; COLUMNS.len()],
    },
    Json {
        reader: BufReader<ShortLines>,
        text: String,
    },
}

impl Trace {
    /// Opens a file and reads its header.
    pub(crate) fn open(file: &Path) -> Result<Self, TraceError> {
        let unread = |reason| TraceError::Read { file: file.to_owned(), reason };
        let mut input = ShortLines { inner: BufReader::new(File::open(file).map_err(unread)?), line: 0, length: 0 };
        let beginning = input.inner.fill_buf().map_err(unread)?;
        let first = beginning.iter().copied().find(|byte| !byte.is_ascii_whitespace());
        let lines = if first == Some(b'{') {
            Ok(Lines::Json { reader: BufReader::new(input), text: String::new() })
        } else {
            csv(input)
        };
        let lines = lines.map_err(|problem| TraceError::Line { file: file.to_owned(), line: 1, problem })?;
        Ok(Self { file: file.to_owned(), lines, at: 0, request: Request::unscoped() })
    }

    /// What the line asks for that was read last.
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Reads the next line.
    pub(crate) fn next(&mut self, places: &mut Places) -> Result<Option<Next>, LoadError> {
        let read = match &mut self.lines {
            Lines::Csv { reader, record, columns } => next_record(reader, record, columns),
            Lines::Json { reader, text } => next_object(reader, text),
        };
        let read = read.and_then(|cells| cells.map(|cells| arrival(&cells)).transpose()).and_then(|found| {
            let backwards = found.as_ref().is_some_and(|(at, ..)| *at < self.at);
            if backwards { Err(LineError::Backwards) } else { Ok(found) }
        });
        let found = read.map_err(|problem| {
            let line = match &self.lines {
                Lines::Csv { reader, .. } => reader.get_ref().line,
                Lines::Json { reader, .. } => reader.get_ref().line,
            };
            TraceError::Line { file: self.file.clone(), line, problem }
        })?;
        let Some((at, hold, request)) = found else { return Ok(None) };
        (self.at, self.request) = (at, request);
        Ok(Some(Next { at, hold, place: places.of(&self.request)? }))
    }
}

/// A line's texts, in the order of [`COLUMNS`].
type Cells<'a> = [Option<Cow<'a, str>>; COLUMNS.len()];

fn arrival(cells: &Cells<'_>) -> Result<(u64, u64, Request), LineError> {
    let [at, key, hold, cost, priority, fairness, weight, max_wait] = cells.each_ref().map(Option::as_deref);
    let at = fields::time("at", at.ok_or(LineError::Missing("at"))?)?;
    let key = key.ok_or(LineError::Missing("key"))?;
    let hold = fields::time("hold", hold.ok_or(LineError::Missing("hold"))?)?;
    let mut fields = Fields::default();
    cost.map_or(Ok(()), |text| fields.cost(text))?;
    priority.map_or(Ok(()), |text| fields.priority(text))?;
    weight.map_or(Ok(()), |text| fields.weight(text))?;
    max_wait.map_or(Ok(()), |text| fields.max_wait(fields::time("max-wait", text)?))?;
    if let Some(text) = fairness {
        fields.fairness(text);
    }
    let bounded = |field, time| fields::at_most(field, time, fields::MAX_TIME).map(nanos);
    Ok((bounded("at", at)?, bounded("hold", hold)?, fields.request(key)?))
}

fn csv(input: ShortLines) -> Result<Lines, LineError> {
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(input);
    let header = reader.headers().map_err(csv_problem)?;
    if header.is_empty() {
        return Err(LineError::Empty);
    }
    let mut columns = [None; COLUMNS.len()];
    for (index, name) in header.iter().enumerate() {
        let known = COLUMNS.iter().position(|column| *column == name);
        let known = known.ok_or_else(|| LineError::UnknownColumn(shown(name)))?;
        if columns[known].replace(index).is_some() {
            return Err(LineError::SameColumn(COLUMNS[known]));
        }
    }
    match COLUMNS.iter().zip(&columns).take(3).find(|(_, column)| column.is_none()) {
        Some((name, _)) => Err(LineError::NoColumn(name)),
        None => Ok(Lines::Csv { reader: Box::new(reader), record: StringRecord::new(), columns }),
    }
}

fn next_record<'a>(
    reader: &mut csv::Reader<ShortLines>,
    record: &'a mut StringRecord,
    columns: &[Option<usize>; COLUMNS.len()],
) -> Result<Option<Cells<'a>>, LineError> {
    let more = reader.read_record(record).map_err(csv_problem)?;
    let given = columns.iter().flatten().count();
    if more && record.len() != given {
        return Err(LineError::Cells { given: record.len(), columns: given });
    }
    let record = &*record;
    let cell = |column: &Option<usize>| {
        column.and_then(|index| record.get(index)).filter(|text| !text.is_empty()).map(Cow::Borrowed)
    };
    Ok(more.then(|| columns.each_ref().map(cell)))
}

fn csv_problem(error: csv::Error) -> LineError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io_problem(&error),
        csv::ErrorKind::Utf8 { .. } => LineError::Csv("it is not UTF-8 text".to_owned()),
        other => LineError::Csv(format!("it is not a line of CSV: {other:?}")),
    }
}

fn io_problem(error: &io::Error) -> LineError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => LineError::TooLong,
        _ => LineError::Csv(error.to_string()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow)]
    at: Option<Text<'a>>,
    key: Option<Text<'a>>,
    hold: Option<Text<'a>>,
    cost: Option<Text<'a>>,
    priority: Option<Text<'a>>,
    fairness: Option<Text<'a>>,
    weight: Option<Text<'a>>,
    max_wait: Option<Text<'a>>,
}

fn next_object<'a>(reader: &mut BufReader<ShortLines>, text: &'a mut String) -> Result<Option<Cells<'a>>, LineError> {
    text.clear();
    while text.trim().is_empty() {
        text.clear();
        if reader.read_line(text).map_err(|error| io_problem(&error))? == 0 {
            return Ok(None);
        }
    }
    let object: Object<'a> = serde_json::from_str(text).map_err(|error| LineError::Json(error.to_string()))?;
    let Object { at, key, hold, cost, priority, fairness, weight, max_wait } = object;
    Ok(Some([at, key, hold, cost, priority, fairness, weight, max_wait].map(|text| text.map(|text| text.0))))
}

/// A text, or a number as it is written.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }
}

/// Hands out one line at a time, so that it knows the number of the line that is being read, and refuses one that is too
/// long before anybody keeps it whole.
#[derive(Debug)]
struct ShortLines {
    inner: BufReader<File>,
    line: u64,
    /// Handed out of this line so far.
    length: usize,
}

impl Read for ShortLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let found = self.inner.fill_buf()?;
        let found = &found[..found.len().min(buffer.len())];
        let ends = found.iter().position(|byte| *byte == b'\n');
        let read = ends.map_or(found.len(), |end| end + 1);
        buffer[..read].copy_from_slice(&found[..read]);
        self.inner.consume(read);
        self.line += u64::from(self.length == 0 && read > 0);
        self.length += read;
        if self.length > MAX_LINE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if ends.is_some() {
            self.length = 0;
        }
        Ok(read)
    }
}
