//! Rows as COPY sends them in its binary form.

use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use tokio_postgres::{CopyOutStream, Error};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The bytes are not those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Why no row came.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server or the connection.
    Server(Error),
    /// The bytes.
    Malformed,
}

impl From<Malformed> for Trouble {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The rows of one COPY, one after the other.
pub(super) struct Copied {
    stream: Pin<Box<CopyOutStream>>,
    cutter: Cutter,
}

impl Copied {
    pub(super) fn new(stream: CopyOutStream) -> Self {
        Self { stream: Box::pin(stream), cutter: Cutter::default() }
    }

    /// The next row; `None` behind the last. Cancel-safe: a future that was dropped has taken nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, Trouble> {
        loop {
            match self.cutter.next()? {
                Cut::Row(row) => return Ok(Some(row)),
                Cut::End => return Ok(None),
                Cut::More => match self.stream.next().await {
                    Some(bytes) => self.cutter.push(bytes.map_err(Trouble::Server)?),
                    None => return Err(Trouble::Malformed),
                },
            }
        }
    }
}

/// Cuts the stream into rows, however it was cut into messages.
#[derive(Debug, Default)]
struct Cutter {
    pending: Bytes,
    begun: bool,
    ended: bool,
}

enum Cut {
    Row(Row),
    End,
    More,
}

impl Cutter {
    fn push(&mut self, bytes: Bytes) {
        if self.pending.is_empty() {
            self.pending = bytes;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.pending.len() + bytes.len());
        joined.extend_from_slice(&self.pending);
        joined.extend_from_slice(&bytes);
        self.pending = joined.freeze();
    }

    fn next(&mut self) -> Result<Cut, Malformed> {
        if self.ended {
            return Ok(Cut::End);
        }
        if !self.begun {
            let Some(header) = header(&self.pending)? else { return Ok(Cut::More) };
            self.pending.advance(header);
            self.begun = true;
        }
        let Some((fields, _)) = self.pending.split_first_chunk::<2>() else { return Ok(Cut::More) };
        if i16::from_be_bytes(*fields) == -1 {
            self.ended = true;
            return Ok(Cut::End);
        }
        let Some(length) = length(&self.pending)? else { return Ok(Cut::More) };
        Ok(Cut::Row(Row(self.pending.split_to(length))))
    }
}

/// How long the header is; `None` if more of it has to come.
fn header(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some((signature, rest)) = bytes.split_at_checked(SIGNATURE.len()) else { return Ok(None) };
    if signature != SIGNATURE {
        return Err(Malformed);
    }
    let Some((_flags, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some((extension, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let extension = usize::try_from(i32::from_be_bytes(*extension)).map_err(|_| Malformed)?;
    Ok((rest.len() >= extension).then_some(SIGNATURE.len() + 8 + extension))
}

/// How long the first row is; `None` if more of it has to come.
fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut rest = bytes;
    let Some(fields) = count(&mut rest) else { return Ok(None) };
    for _ in 0..u16::try_from(fields).map_err(|_| Malformed)? {
        let Some((size, behind)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        rest = match usize::try_from(size) {
            Ok(size) => match behind.get(size..) {
                Some(behind) => behind,
                None => return Ok(None),
            },
            Err(_) if size == -1 => behind,
            Err(_) => return Err(Malformed),
        };
    }
    Ok(Some(bytes.len() - rest.len()))
}

fn count(bytes: &mut &[u8]) -> Option<i16> {
    let (fields, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(i16::from_be_bytes(*fields))
}

/// One row, whole.
#[derive(Debug, Clone)]
pub(super) struct Row(Bytes);

impl Row {
    /// Its size, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds it to others, without its last value.
    pub(super) fn append_without_last(&self, to: &mut BytesMut) {
        let (Some((fields, values)), Some(last)) = (self.0.split_first_chunk::<2>(), self.fields().last())
        else {
            return;
        };
        let size = last.map_or(0, <[u8]>::len).saturating_add(4);
        to.put_i16(i16::from_be_bytes(*fields).saturating_sub(1));
        to.extend_from_slice(values.get(..values.len().saturating_sub(size)).unwrap_or_default());
    }

    /// Adds it to others.
    pub(super) fn append(&self, to: &mut BytesMut) {
        to.extend_from_slice(&self.0);
    }

    /// Its values, in order; `None` for NULL.
    pub(super) fn fields(&self) -> Fields<'_> {
        let mut rest = &*self.0;
        let _ = count(&mut rest);
        Fields(rest)
    }
}

/// The values of a row that are still to come.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (size, behind) = self.0.split_first_chunk::<4>()?;
        let Ok(size) = usize::try_from(i32::from_be_bytes(*size)) else {
            self.0 = behind;
            return Some(None);
        };
        let (value, rest) = behind.split_at_checked(size)?;
        self.0 = rest;
        Some(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
        let mut bytes = [SIGNATURE, &[0; 4], &[0, 0, 0, 2], b"xx"].concat();
        for row in rows {
            bytes.extend(i16::try_from(row.len()).unwrap().to_be_bytes());
            for value in *row {
                match value {
                    None => bytes.extend((-1_i32).to_be_bytes()),
                    Some(value) => {
                        bytes.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                        bytes.extend(*value);
                    }
                }
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_come_whole_however_the_stream_is_cut() {
        let rows: [&[Option<&[u8]>]; 3] = [&[Some(b"a"), None, Some(b"")], &[], &[Some(&[7; 300])]];
        let bytes = stream(&rows);
        for size in [1, 2, 3, 7, 50, bytes.len()] {
            let mut cutter = Cutter::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                cutter.push(Bytes::copy_from_slice(piece));
                while let Cut::Row(row) = cutter.next().unwrap() {
                    found.push(row.fields().map(|value| value.map(<[u8]>::to_vec)).collect::<Vec<_>>());
                }
            }
            assert!(matches!(cutter.next(), Ok(Cut::End)));
            let wanted: Vec<Vec<_>> =
                rows.iter().map(|row| row.iter().map(|value| value.map(<[u8]>::to_vec)).collect()).collect();
            assert_eq!(found, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut cutter = Cutter::default();
            cutter.push(Bytes::copy_from_slice(bytes));
            cutter.next().is_err()
        };
        assert!(refused(b"PGCOPY\n\xff\r\n\x01"));
        let mut bytes = stream(&[&[Some(b"a")]]);
        bytes[SIGNATURE.len() + 10 + 2] = 0xff;
        assert!(refused(&bytes));
    }
}
