//! Records as 128 bits that tell them apart within one comparison.
//!
//! Equal values give equal prints, as with [`hapax_engine::canonical`]: whatever the width of an integer, the
//! unit of a timestamp or the layout of a string. Prints are not cryptographic. Their keys are drawn anew for
//! each comparison and never leave the process, so no record can be made to look like another one.

use std::hash::{BuildHasher, RandomState};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, GenericBinaryArray, Int64Array, RecordBatch,
    StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::canonical::nested::{Nested, Shape, flat_nulls, printed};

/// What a record, or its identity, looks like in one comparison.
pub(super) type Print = u128;

/// What stands for the content of a record that removes the one of its key. None that stays has it.
pub(super) const GONE: Print = 0;

/// The keys of one comparison.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    start: [u64; 2],
    factors: [u64; 2],
    ends: [u64; 2],
    kinds: [u64; 14],
}

/// A print while it is made: two halves that never meet, each under keys of its own.
#[derive(Clone, Copy)]
struct Halves(u64, u64);

/// What kind of value follows.
#[derive(Clone, Copy)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Unsigned,
    Float,
    Text,
    Bytes,
    Date,
    Clock,
    Moment,
    Printed,
    List,
    Struct,
    Map,
}

/// The upper and the lower half of a product, added without carry.
fn fold(one: u64, other: u64) -> u64 {
    let (low, high) = one.carrying_mul(other, 0);
    low ^ high
}

impl Keys {
    /// Draws keys. The standard library draws those of its maps from the operating system.
    pub fn drawn() -> Self {
        let random = RandomState::new();
        let mut drawn = 0_u64;
        let mut draw = || {
            drawn = drawn.wrapping_add(1);
            random.hash_one(drawn)
        };
        Self {
            start: [draw(), draw()],
            factors: [draw() | 1, draw() | 1],
            ends: [draw() | 1, draw() | 1],
            kinds: std::array::from_fn(|_| draw()),
        }
    }

    /// The prints of all rows, by the columns `columns` in this order.
    pub fn rows(&self, records: &RecordBatch, columns: &[usize]) -> Result<Vec<Print>, ArrowError> {
        let [one, two] = self.start;
        let mut rows = vec![Halves(one, two); records.num_rows()];
        for column in columns.iter().filter_map(|&column| records.columns().get(column)) {
            self.column(column, &mut rows)?;
        }
        Ok(rows.into_iter().map(|halves| self.end(halves)).collect())
    }

    /// The print of 128 bits that tell records apart already.
    pub fn of_id(&self, id: [u8; 16]) -> Print {
        let [one, two] = self.start;
        let mut halves = Halves(one, two);
        self.block(&mut halves, &id);
        self.end(halves)
    }

    fn kind(&self, kind: Kind) -> u64 {
        let [
            null,
            boolean,
            integer,
            unsigned,
            float,
            text,
            bytes,
            date,
            clock,
            moment,
            printed,
            list,
            fields,
            map,
        ] = self.kinds;
        match kind {
            Kind::Null => null,
            Kind::Boolean => boolean,
            Kind::Integer => integer,
            Kind::Unsigned => unsigned,
            Kind::Float => float,
            Kind::Text => text,
            Kind::Bytes => bytes,
            Kind::Date => date,
            Kind::Clock => clock,
            Kind::Moment => moment,
            Kind::Printed => printed,
            Kind::List => list,
            Kind::Struct => fields,
            Kind::Map => map,
        }
    }

    fn end(&self, halves: Halves) -> Print {
        let [one, two] = self.ends;
        u128::from(fold(halves.0, one)) << 64 | u128::from(fold(halves.1, two))
    }

    fn word(&self, halves: &mut Halves, kind: u64, word: u64) {
        let [one, two] = self.factors;
        halves.0 = fold(halves.0.wrapping_add(kind) ^ word, one);
        halves.1 = fold(halves.1.wrapping_add(kind) ^ word, two);
    }

    fn block(&self, halves: &mut Halves, block: &[u8; 16]) {
        let ([one, two], both) = (self.factors, u128::from_le_bytes(*block));
        let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(both >> 64).unwrap_or(0);
        halves.0 = fold(halves.0 ^ low, one ^ high);
        halves.1 = fold(halves.1 ^ high, two ^ low);
    }

    fn bytes(&self, halves: &mut Halves, kind: u64, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        halves.0 = halves.0.wrapping_add(kind).wrapping_add(length);
        halves.1 = halves.1.wrapping_add(kind).wrapping_add(length);
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            self.block(halves, block);
        }
        if !rest.is_empty() || blocks.is_empty() {
            let mut last = [0; 16];
            if let Some(last) = last.get_mut(..rest.len()) {
                last.copy_from_slice(rest);
            }
            self.block(halves, &last);
        }
    }

    /// Adds one column to every row.
    fn column(&self, array: &ArrayRef, rows: &mut [Halves]) -> Result<(), ArrowError> {
        const DAY_NS: i128 = 86_400_000_000_000;
        let to = |kind: DataType| cast(array, &kind);
        match array.data_type() {
            DataType::Boolean => self.booleans(array.as_boolean(), rows),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                self.integers(to(DataType::Int64)?.as_primitive(), rows);
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                self.unsigned(to(DataType::UInt64)?.as_primitive(), rows);
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                self.floats(to(DataType::Float64)?.as_primitive(), rows);
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                self.texts(to(DataType::Utf8)?.as_string(), rows);
            }
            DataType::Dictionary(_, values) if **values == DataType::Utf8 => {
                self.texts(to(DataType::Utf8)?.as_string(), rows);
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => self.binaries(to(DataType::LargeBinary)?.as_binary(), rows),
            DataType::Date32 => {
                let days = cast(&to(DataType::Int32)?, &DataType::Int64)?;
                self.times(Kind::Date, days.as_primitive(), DAY_NS, rows);
            }
            DataType::Date64 => {
                self.times(Kind::Date, to(DataType::Int64)?.as_primitive(), 1_000_000, rows);
            }
            DataType::Timestamp(unit, _) => {
                self.times(Kind::Moment, to(DataType::Int64)?.as_primitive(), nanoseconds(*unit), rows);
            }
            DataType::Time64(unit) => {
                self.times(Kind::Clock, to(DataType::Int64)?.as_primitive(), nanoseconds(*unit), rows);
            }
            DataType::Time32(unit) => {
                let ticks = cast(&to(DataType::Int32)?, &DataType::Int64)?;
                self.times(Kind::Clock, ticks.as_primitive(), nanoseconds(*unit), rows);
            }
            _ => match Nested::of(array)? {
                Some(nested) => self.nested(&nested, rows)?,
                None => self.printed(array, rows)?,
            },
        }
        Ok(())
    }

    /// Adds a value, or that there is none, to every row.
    fn each<T>(
        &self,
        rows: &mut [Halves],
        values: impl Iterator<Item = Option<T>>,
        mut add: impl FnMut(&mut Halves, T),
    ) {
        let null = self.kind(Kind::Null);
        for (halves, value) in rows.iter_mut().zip(values) {
            match value {
                Some(value) => add(halves, value),
                None => self.word(halves, null, 0),
            }
        }
    }

    fn booleans(&self, array: &BooleanArray, rows: &mut [Halves]) {
        let kind = self.kind(Kind::Boolean);
        self.each(rows, array.iter(), |halves, value| self.word(halves, kind, u64::from(value)));
    }

    fn integers(&self, array: &Int64Array, rows: &mut [Halves]) {
        let kind = self.kind(Kind::Integer);
        if array.null_count() == 0 {
            for (halves, value) in rows.iter_mut().zip(array.values().iter()) {
                self.word(halves, kind, value.cast_unsigned());
            }
        } else {
            self.each(rows, array.iter(), |halves, value| self.word(halves, kind, value.cast_unsigned()));
        }
    }

    fn unsigned(&self, array: &UInt64Array, rows: &mut [Halves]) {
        let (small, large) = (self.kind(Kind::Integer), self.kind(Kind::Unsigned));
        self.each(rows, array.iter(), |halves, value| {
            self.word(halves, if i64::try_from(value).is_ok() { small } else { large }, value);
        });
    }

    fn floats(&self, array: &Float64Array, rows: &mut [Halves]) {
        let kind = self.kind(Kind::Float);
        self.each(rows, array.iter(), |halves, value| {
            let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
            self.word(halves, kind, bits);
        });
    }

    fn texts(&self, array: &StringArray, rows: &mut [Halves]) {
        let kind = self.kind(Kind::Text);
        self.each(rows, array.iter(), |halves, value| self.bytes(halves, kind, value.as_bytes()));
    }

    fn binaries(&self, array: &GenericBinaryArray<i64>, rows: &mut [Halves]) {
        let kind = self.kind(Kind::Bytes);
        self.each(rows, array.iter(), |halves, value| self.bytes(halves, kind, value));
    }

    /// Days or ticks, each so many nanoseconds: the same moment is the same whatever the unit.
    fn times(&self, kind: Kind, array: &Int64Array, scale: i128, rows: &mut [Halves]) {
        let kind = self.kind(kind);
        self.each(rows, array.iter(), |halves, value| {
            halves.0 = halves.0.wrapping_add(kind);
            halves.1 = halves.1.wrapping_add(kind);
            self.block(halves, &i128::from(value).saturating_mul(scale).to_le_bytes());
        });
    }

    /// Prints the children as if each were a record, and adds how many there are and their prints to every row.
    fn nested(&self, nested: &Nested, rows: &mut [Halves]) -> Result<(), ArrowError> {
        let (null, [one, two]) = (self.kind(Kind::Null), self.start);
        let kind = self.kind(match nested.shape {
            Shape::List => Kind::List,
            Shape::Struct => Kind::Struct,
            Shape::Map => Kind::Map,
        });
        let mut parts = Vec::with_capacity(nested.parts().len());
        for (name, part) in nested.parts() {
            let mut start = Halves(one, two);
            if let Some(name) = name {
                self.bytes(&mut start, self.kind(Kind::Text), name.as_bytes());
            }
            let mut children = vec![start; part.len()];
            self.column(part, &mut children)?;
            parts.push(children);
        }
        let [one, two] = self.factors;
        for (row, halves) in rows.iter_mut().enumerate() {
            if nested.is_null(row) {
                self.word(halves, null, 0);
                continue;
            }
            self.word(halves, kind, nested.length(row));
            for child in nested.span(row) {
                for child in parts.iter().filter_map(|part| part.get(child)) {
                    halves.0 = fold(halves.0.wrapping_add(kind) ^ child.0, one);
                    halves.1 = fold(halves.1.wrapping_add(kind) ^ child.1, two);
                }
            }
        }
        Ok(())
    }

    fn printed(&self, array: &ArrayRef, rows: &mut [Halves]) -> Result<(), ArrowError> {
        let (null, kind) = (self.kind(Kind::Null), self.kind(Kind::Printed));
        let options = FormatOptions::default().with_display_error(false);
        let (formatter, nulls) = (ArrayFormatter::try_new(array.as_ref(), &options)?, flat_nulls(array));
        for (row, halves) in rows.iter_mut().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                self.word(halves, null, 0);
            } else {
                self.bytes(halves, kind, printed(&formatter, array, row)?.as_bytes());
            }
        }
        Ok(())
    }
}

fn nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests;
