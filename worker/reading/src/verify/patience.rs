//! A reader that gives nothing more after its time: decoders stop with it, however long a file would keep them.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::time::Instant;

pub(super) struct Patient<R> {
    inner: R,
    deadline: Instant,
}

impl<R> Patient<R> {
    pub(super) fn new(inner: R, deadline: Instant) -> Patient<R> {
        Patient { inner, deadline }
    }

    fn in_time(&self) -> Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Error::from(ErrorKind::TimedOut)) }
    }
}

impl<R: Read> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.in_time()?;
        self.inner.read(buffer)
    }
}

impl<R: BufRead> BufRead for Patient<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.in_time()?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}

impl<R: Seek> Seek for Patient<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.inner.seek(to)
    }

    // Without it, what is buffered would be thrown away at each step.
    fn seek_relative(&mut self, offset: i64) -> Result<()> {
        self.inner.seek_relative(offset)
    }
}
