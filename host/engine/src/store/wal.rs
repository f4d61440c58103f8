//! The log that SQLite keeps beside a file, `-wal`, looked at before anything is written to it.
//!
//! SQLite reads it up to its first bad frame, and forgets what follows. That is right for a write that was torn by the end of the
//! process or of power, which is the last one. If a log is damaged further up, what follows was answered, and leases and starts would be
//! forgotten without a word. So whoever finds good frames behind a bad one refuses, unless they may be of one transaction with it: of the last,
//! the end of power may leave any of its frames unwritten.
//!
//! # The format
//! As [SQLite documents it](https://www.sqlite.org/fileformat2.html#walformat): 32 bytes of header, then frames, each 24 bytes and a
//! page. A frame's checksum goes on from that of the frame before; a frame of this log has the salts of the header, what an earlier
//! round has left behind it has others. The last frame of a transaction says how large the file is then.
//!
//! A frame behind the bad one is good if its checksum goes on from the one that its neighbour has, or from the one that its neighbour
//! should have: a flipped bit is found wherever it is, but for the last transaction.
//!
//! # What is not told
//! A log that was cut off, or whose whole end was overwritten, looks like one that was torn; so does one that lacks whole frames right before its
//! last transaction, be they of several.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The lowest bit says how words are read for checksums: 1, the most significant byte first.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole frame, or there is none.
    Whole,
    /// Within the frame of this number, from 1 on.
    Torn(u64),
}

/// Why a log cannot be relied upon.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its header is damaged")]
    Header,
    #[error("frame {0} is damaged, and others follow it")]
    Frame(u64),
}

type Sum = (u32, u32);

/// How words are read.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn add(self, (mut one, mut two): Sum, bytes: &[u8]) -> Sum {
        let word = |bytes: [u8; 4]| if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
            one = one.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(two);
            two = two.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(one);
        }
        (one, two)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn pair(bytes: &[u8], at: usize) -> (u32, u32) {
    (number(bytes, at), number(bytes, at + 4))
}

/// Looks at a log, which need not be there.
pub(super) fn check(path: &Path) -> Result<End, Damage> {
    let mut log = match File::open(path) {
        Ok(file) => BufReader::with_capacity(1 << 16, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(End::Whole),
        Err(error) => return Err(error.into()),
    };
    let mut header = [0; HEADER];
    let read = fill(&mut log, &mut header)?;
    if read < HEADER || log.fill_buf()?.is_empty() {
        // Nothing was ever written behind it.
        return Ok(End::Whole);
    }
    let magic = number(&header, 0);
    let order = Order { big: magic & 1 == 1 };
    let sum = order.add((0, 0), &header[..24]);
    let size = number(&header, 8);
    if magic & !1 != MAGIC
        || number(&header, 4) != VERSION
        || !size.is_power_of_two()
        || !(512..=65_536).contains(&size)
        || sum != pair(&header, 24)
    {
        return Err(Damage::Header);
    }
    frames(&mut log, size as usize, order, pair(&header, 16), sum)
}

fn frames(log: &mut impl Read, size: usize, order: Order, salts: (u32, u32), sum: Sum) -> Result<End, Damage> {
    let mut frame = vec![0; FRAME + size];
    // What the next frame goes on from: as it is computed, and as it is written.
    let (mut computed, mut written) = (sum, sum);
    let (mut bad, mut torn) = (None, false);
    // Since the first bad one: whether a bad one, and whether a good one, is the last frame of a transaction.
    let (mut bad_end, mut end) = (false, false);
    for index in 1.. {
        let read = fill(log, &mut frame)?;
        if read < frame.len() {
            torn |= bad.is_none() && read >= FRAME && pair(&frame, 8) == salts;
            let first = bad.unwrap_or(index);
            return Ok(if torn { End::Torn(first) } else { End::Whole });
        }
        let go_on = |from| order.add(order.add(from, &frame[..8]), &frame[FRAME..]);
        let (own, is_ours) = (pair(&frame, 16), pair(&frame, 8) == salts);
        let follows_written = is_ours && own == go_on(written);
        computed = go_on(computed);
        let follows = own == computed;
        written = own;
        if bad.is_none() && !(is_ours && follows && number(&frame, 0) != 0) {
            bad = Some(index);
            torn = is_ours;
        }
        if let Some(first) = bad
            && number(&frame, 4) != 0
        {
            let good = follows || follows_written;
            if good && (end || bad_end) {
                return Err(Damage::Frame(first));
            }
            (end, bad_end, torn) = (end || good, bad_end || !good && is_ours, torn || good);
        }
    }
    Ok(End::Whole)
}

/// Reads as much as there is, and as fits.
fn fill(log: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match log.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::fs;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// A file with so many transactions of several frames each in its log, as a kill leaves it.
    fn killed(transactions: i64) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.db");
        let file = Connection::open(&path).unwrap();
        file.execute_batch(
            "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x)",
        )
        .unwrap();
        for n in 1..=transactions {
            file.execute("INSERT INTO t VALUES (?, randomblob(900))", [n]).unwrap();
        }
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join("file.db");
        fs::copy(&path, &copied).unwrap();
        fs::copy(log_of(&path), log_of(&copied)).unwrap();
        (copy, copied)
    }

    fn log_of(path: &Path) -> PathBuf {
        path.with_extension("db-wal")
    }

    fn transactions(path: &Path) -> i64 {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("file.db");
        fs::copy(path, &copy).unwrap();
        fs::copy(log_of(path), log_of(&copy)).unwrap();
        let file = Connection::open(&copy).unwrap();
        file.query_row("SELECT ifnull(max(n), 0) FROM t", [], |row| row.get(0)).unwrap_or(-1)
    }

    /// No flipped bit makes SQLite forget more than the last transaction without being found.
    #[test]
    fn a_flipped_bit_is_found_wherever_it_is_but_for_the_last_transaction() {
        let (_directory, path) = killed(6);
        let log = fs::read(log_of(&path)).unwrap();
        assert!(matches!(check(&log_of(&path)), Ok(End::Whole)));
        let frames = (log.len() - HEADER) / (FRAME + 512);
        let heads = (0..frames).flat_map(|frame| {
            let at = HEADER + frame * (FRAME + 512);
            [0, 4, 8, 12, 16, 20, 24, 300].map(|field| at + field)
        });
        let mut found = 0;
        for at in (0..HEADER).chain(heads) {
            let mut damaged = log.clone();
            damaged[at] ^= 0x10;
            fs::write(log_of(&path), &damaged).unwrap();
            match check(&log_of(&path)) {
                Err(Damage::Header) => assert!(at < HEADER, "{at}"),
                Err(Damage::Frame(frame)) => assert_eq!(frame as usize, 1 + (at - HEADER) / (FRAME + 512)),
                other => {
                    let left = transactions(&path);
                    assert!(left >= 5, "byte {at}: {left} left and {other:?}");
                    continue;
                }
            }
            found += 1;
        }
        assert!(found > 32 + 5 * 16, "{found}");
    }

    #[test]
    fn a_torn_end_is_told_and_what_an_earlier_round_left_is_none() {
        let (_directory, path) = killed(3);
        let log = fs::read(log_of(&path)).unwrap();
        let frames = ((log.len() - HEADER) / (FRAME + 512)) as u64;
        let look = |bytes: &[u8]| {
            fs::write(log_of(&path), bytes).unwrap();
            check(&log_of(&path))
        };
        for cut in [1, 100, 511] {
            assert!(matches!(look(&log[..log.len() - cut]), Ok(End::Torn(frame)) if frame == frames), "{cut}");
        }
        let mut zeroed = log.clone();
        zeroed[log.len() - 512..].fill(0);
        assert!(matches!(look(&zeroed), Ok(End::Torn(frame)) if frame == frames));
        // Any frame of the last transaction may be the one that was not written, and of no other.
        let ends: Vec<u64> = (1..=frames)
            .filter(|frame| number(&log, HEADER + (*frame as usize - 1) * (FRAME + 512) + 4) != 0)
            .collect();
        let [.., before, last] = ends[..] else { panic!("{ends:?}") };
        assert!(last == frames && last - before >= 3, "{ends:?}");
        for missing in 1..=frames {
            for byte in [0, 0xa5] {
                let at = HEADER + (missing as usize - 1) * (FRAME + 512);
                let mut torn = log.clone();
                torn[at + FRAME..][..512].fill(byte);
                // Where a frame of an earlier round has stayed, that may have been the last of a transaction.
                let mut stale = torn.clone();
                stale[at + 4..][..12].fill(7);
                match look(&stale) {
                    Ok(_) => assert!(missing >= before, "{missing} of {ends:?}"),
                    Err(damage) => assert!(missing < before, "{missing} of {ends:?}: {damage}"),
                }
                match look(&torn) {
                    Ok(End::Torn(frame)) => assert!(frame == missing && missing > before, "{missing} of {ends:?}"),
                    Err(Damage::Frame(frame)) => {
                        assert!(frame == missing && missing <= before, "{missing} of {ends:?}")
                    }
                    other => panic!("{missing} of {ends:?}: {other:?}"),
                }
            }
        }
        for length in [0, 1, HEADER, log.len() - FRAME - 512] {
            assert!(matches!(look(&log[..length]), Ok(End::Whole)), "{length}");
        }
        assert!(matches!(check(&path.with_extension("absent")), Ok(End::Whole)));

        // A log that was started anew over a longer one.
        let _absent = fs::remove_file(log_of(&path));
        let file = Connection::open(&path).unwrap();
        file.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x)")
            .unwrap();
        for n in 10..20 {
            file.execute("INSERT INTO t VALUES (?, randomblob(900))", [n]).unwrap();
        }
        file.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
        file.execute("INSERT INTO t VALUES (30, 1)", []).unwrap();
        assert!(matches!(check(&log_of(&path)), Ok(End::Whole)));
    }
}
