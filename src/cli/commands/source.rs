//! Where units are read from: a file, a pipe or standard input, compressed or not, record by record.

use flate2::bufread::GzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The longest record, in bytes: more than any server takes in one message by default would be of no use, and
/// several must be held at once.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;
/// How much is read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The first bytes of what gzip has compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How often to check for an interruption while nothing comes.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The records of a file, each ended by a separator, or by the end of the file.
pub(super) struct Records {
    input: Box<dyn BufRead>,
    separator: u8,
    /// The number of the record that was read last, from 1 on.
    pub(super) number: u64,
    record: Vec<u8>,
    /// How many bytes there are to read, where that is known.
    pub(super) bytes_total: Option<u64>,
    bytes_read: Arc<AtomicU64>,
}

impl Records {
    /// Opens a file; `-` is standard input. Reading ends with an error when `must_stop` becomes true.
    ///
    /// # Errors
    /// If it can't be opened, or its first bytes can't be read.
    pub(super) fn open(path: &Path, separator: u8, must_stop: Arc<AtomicBool>) -> io::Result<Self> {
        let file = match path.to_str() {
            Some("-") => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            _ => File::open(path)?,
        };
        let about = file.metadata()?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut source = Source {
            file,
            must_stop,
            bytes_read: Arc::clone(&bytes_read),
        };
        let mut first = Vec::new();
        source
            .by_ref()
            .take(GZIP.len() as u64)
            .read_to_end(&mut first)?;
        let is_compressed = first == GZIP;
        let whole = Cursor::new(first).chain(source);
        let input: Box<dyn BufRead> = if is_compressed {
            let compressed = BufReader::with_capacity(PIECE_BYTES, whole);
            let plain = Uncompressed(Some(GzDecoder::new(compressed)));
            Box::new(BufReader::with_capacity(PIECE_BYTES, plain))
        } else {
            Box::new(BufReader::with_capacity(PIECE_BYTES, whole))
        };
        Ok(Self {
            input,
            separator,
            number: 0,
            record: Vec::new(),
            bytes_total: about.is_file().then_some(about.len()),
            bytes_read,
        })
    }

    /// The number of the next record, and the record without its separator; `None` at the end.
    ///
    /// # Errors
    /// If it can't be read, or is longer than [`RECORD_BYTES_MAX`]; [`Records::number`] is its number.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.record.clear();
        self.number += 1;
        let mut limited = self.input.by_ref().take(RECORD_BYTES_MAX as u64 + 1);
        if limited.read_until(self.separator, &mut self.record)? == 0 {
            self.number -= 1;
            return Ok(None);
        }
        if self.record.last() == Some(&self.separator) {
            self.record.pop();
        } else if self.record.len() > RECORD_BYTES_MAX {
            return Err(io::Error::other(format!(
                "longer than {} MiB, which is the limit",
                RECORD_BYTES_MAX >> 20
            )));
        }
        Ok(Some((self.number, &self.record)))
    }

    /// How many bytes have been read, of a compressed file before they are uncompressed.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

/// What gzip has compressed: one part or several behind each other, and any number of zeros behind them, with which
/// some tools fill up blocks.
struct Uncompressed<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Uncompressed<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = &mut self.0 {
            let count = part.read(room)?;
            if count > 0 || room.is_empty() {
                return Ok(count);
            }
            if let Some(part) = self.0.take() {
                let mut rest = part.into_inner();
                self.0 = skip_zeros(&mut rest)?.then(|| GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Passes over zeros. True if there is something behind them.
fn skip_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = input.fill_buf()?;
        let there = buffer.len();
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        input.consume(zeros);
        if zeros < there {
            return Ok(true);
        }
        if there == 0 {
            return Ok(false);
        }
    }
}

/// An open file that can be stopped while nothing comes, and which counts.
struct Source {
    file: File,
    must_stop: Arc<AtomicBool>,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.must_stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&POLL)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => {
                    let count = self.file.read(room)?;
                    self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
                    return Ok(count);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
