//! Generated records that can be told apart for certain: each carries its writer, its sequence number
//! and a hash of all it contains.

use std::path::PathBuf;

use tempfile::TempDir;

/// A small generator of random numbers (SplitMix64), so that a seed says everything.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that happens once in `n`; never for 0.
    fn once_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

/// One record as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub writer: i64,
    pub sequence: i64,
    pub amount: f64,
    pub text: Option<String>,
    pub hash: String,
}

/// FNV-1a over what the record says.
pub fn hash(writer: i64, sequence: i64, amount: f64, text: Option<&str>) -> String {
    let said = format!("{writer}|{sequence}|{amount}|{}", text.unwrap_or("\u{0}"));
    let digest = said.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    format!("h{digest:016x}")
}

/// What stands between the records of a CSV file: each once in so many records, 0 for never.
#[derive(Clone, Copy)]
pub struct Noise {
    /// An earlier record of the same file, once more.
    pub twins: u64,
    /// A line that is no record; of each of two kinds.
    pub malformed: u64,
}

/// A little noise, as in files that people have.
pub const USUAL: Noise = Noise { twins: 40, malformed: 500 };
/// Nothing but the records.
pub const SILENCE: Noise = Noise { twins: 0, malformed: 0 };

/// Records in two CSV files, in the two as one, in a third that repeats them all, and in one SQLite table.
pub struct Data {
    pub folder: TempDir,
    pub records: Vec<Record>,
    pub malformed: usize,
}

const HEADER: &str = "writer,sequence,amount,text,hash\n";

impl Data {
    pub fn generate(count: usize, seed: u64) -> Self {
        Self::generate_with(count, seed, USUAL)
    }

    pub fn generate_with(count: usize, seed: u64, noise: Noise) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let mut records = Vec::with_capacity(count);
        for n in 0..count {
            let (writer, sequence) = (n as i64 % 3, n as i64 / 3);
            let amount = random.below(1_000_000) as f64 / 8.0;
            let text = match random.below(5) {
                0 => None,
                1 => Some(format!("a \"quoted\", text\nof two lines {n}")),
                _ => Some(format!("text {}", random.below(1000))),
            };
            let hash = hash(writer, sequence, amount, text.as_deref());
            records.push(Record { writer, sequence, amount, text, hash });
        }
        let malformed = Self::write_csv(&folder, &records, &mut random, noise);
        Self::write_sqlite(&folder, &records);
        Self { folder, records, malformed }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_csv(folder: &TempDir, records: &[Record], random: &mut Random, noise: Noise) -> usize {
        let mut malformed = 0;
        let mut all = String::from(HEADER);
        let halves = records.split_at(records.len() / 2);
        for (name, half) in [("part-1.csv", halves.0), ("part-2.csv", halves.1)] {
            let mut text = String::new();
            for (n, record) in half.iter().enumerate() {
                text.push_str(&line(record));
                if random.once_in(noise.twins) {
                    text.push_str(&line(&half[random.below(n as u64 + 1) as usize]));
                }
                if random.once_in(noise.malformed) {
                    text.push_str("9,not a number,1.0,x,y\n");
                    malformed += 1;
                }
                if random.once_in(noise.malformed) {
                    text.push_str("9,9,9\n");
                    malformed += 1;
                }
            }
            std::fs::write(folder.path().join(name), format!("{HEADER}{text}")).unwrap();
            all.push_str(&text);
        }
        std::fs::write(folder.path().join("all.csv"), all).unwrap();
        let again: String = records.iter().map(line).collect();
        std::fs::write(folder.path().join("again.csv"), format!("{HEADER}{again}")).unwrap();
        malformed
    }

    fn write_sqlite(folder: &TempDir, records: &[Record]) {
        let mut db = rusqlite::Connection::open(folder.path().join("source.db")).unwrap();
        db.execute_batch(
            "CREATE TABLE events(writer INTEGER, sequence INTEGER, amount REAL, text TEXT, hash TEXT)",
        )
        .unwrap();
        let tx = db.transaction().unwrap();
        for r in records {
            tx.execute(
                "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)",
                (r.writer, r.sequence, r.amount, &r.text, &r.hash),
            )
            .unwrap();
        }
        tx.commit().unwrap();
    }
}

fn line(record: &Record) -> String {
    let text =
        record.text.as_deref().map_or(String::new(), |text| format!("\"{}\"", text.replace('"', "\"\"")));
    format!("{},{},{},{},{}\n", record.writer, record.sequence, record.amount, text, record.hash)
}
