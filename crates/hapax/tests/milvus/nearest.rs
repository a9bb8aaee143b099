//! Many vectors, and whether their neighbours are the same behind the move.

use std::path::Path;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::scene::{Server, parquet};
use super::{hapax, pipeline};

const SIZE: usize = 384;

/// How many flights are moved where there is no better text.
const FLIGHTS: usize = 4_000;

/// The keys of the nearest vectors, compared with every one.
fn nearest(vectors: &[(i64, Vec<f32>)], query: &[f32], k: usize) -> Vec<(f64, i64)> {
    let mut all: Vec<(f64, i64)> = vectors
        .iter()
        .map(|(id, vector)| {
            let each = vector.iter().zip(query).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            (each.sum::<f64>(), *id)
        })
        .collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all.truncate(k);
    all
}

/// Whether the server finds what comparing with every vector finds. Two that are as near as each other, as far as single
/// precision tells, may stand in either order.
fn agrees(server: &mut Server, name: &str, vectors: &[(i64, Vec<f32>)], when: &str) {
    let queries: Vec<usize> = (0..20).map(|n| n * vectors.len() / 20).collect();
    let asked: Vec<Vec<f32>> = queries
        .iter()
        .map(|at| vectors[*at].1.iter().zip(&vectors[at / 2].1).map(|(a, b)| a * 0.75 + b * 0.25).collect())
        .collect();
    let answers = server.nearest(name, "L2", &asked, 10);
    for (query, answer) in asked.iter().zip(answers) {
        let expected = nearest(vectors, query, 10);
        assert_eq!(answer.len(), 10, "{when}");
        for ((distance, id), found) in expected.iter().zip(&answer) {
            let at = usize::try_from(*found).unwrap();
            let other: f64 =
                vectors[at].1.iter().zip(query).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            assert!(found == id || (other - distance).abs() < 1e-5, "{when}: {found} instead of {id}");
        }
    }
}

/// The words of a text, thrown into as many places as a vector has, by their parts of three letters.
fn embedded(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; SIZE];
    let lower = format!("  {}  ", text.to_lowercase());
    let letters: Vec<char> = lower.chars().collect();
    for part in letters.windows(3) {
        let hash = part.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, c| {
            (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let sign = if hash & (1 << 40) == 0 { 1.0 } else { -1.0 };
        vector[(hash >> 8) as usize % SIZE] += sign;
    }
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-6);
    vector.iter().map(|number| number / length).collect()
}

/// The vectors of a file, as bench/milvus/embeddings writes it. Their ids are their places.
fn of_file(path: &Path) -> Vec<(i64, Vec<f32>)> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut vectors = Vec::new();
    for batch in reader.map(Result::unwrap) {
        let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
        let lists = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
        for row in 0..batch.num_rows() {
            vectors.push((ids.value(row), lists.value(row).as_primitive::<Float32Type>().values().to_vec()));
        }
    }
    vectors
}

/// Puts vectors into a file, and returns them: the file that HAPAX_EMBEDDINGS names, which bench/milvus/embeddings made out of
/// real text with a real model, or the flights of New York's airports, a few thousand, by the parts of their words.
fn vectors(into: &Path) -> Vec<(i64, Vec<f32>)> {
    if let Some(path) = std::env::var_os("HAPAX_EMBEDDINGS") {
        let path = super::root().join(path);
        let vectors = of_file(&path);
        std::os::unix::fs::symlink(path, into).unwrap();
        return vectors;
    }
    let path = super::root().join(".cache/nycflights13/flights.csv");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("this test needs a data set; fetch it: services/nycflights13"));
    let lines = text.lines().skip(1).take(FLIGHTS);
    let vectors: Vec<_> = lines.enumerate().map(|(id, line)| (id as i64, embedded(line))).collect();
    parquet(into, &vectors);
    vectors
}

#[test]
fn neighbours_are_the_same_after_the_move_and_after_ten_kills() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = vectors(&folder.path().join("in.parquet"));
    let mut server = Server::of_tests();
    for kills in [0, 10] {
        let name = server.named(&format!("near_{kills}"));
        let records = vectors.len() / 100;
        let more = format!("delivery: effectively-once\ncommit: {{ records: {records} }}\n");
        let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, &more);
        let text = std::fs::read_to_string(&file).unwrap().replace("dimension: 8", "dimension: 384");
        std::fs::write(&file, text).unwrap();
        let hapax = hapax(&server, folder.path(), file, None);
        let begun = Instant::now();
        // All over its length, of a hundred commits: in the middle of an effect, behind it, and behind its position.
        for point in ["mid-write:9", "commit-before:9", "commit-after:9"].iter().cycle().take(kills) {
            assert!(hapax.crash(point), "a run ended before {point}");
        }
        hapax.moved();
        eprintln!("{} vectors, {kills} kills: {:?}", vectors.len(), begun.elapsed());
        assert_eq!(server.count(&name), vectors.len() as i64, "after {kills} kills");
        agrees(&mut server, &name, &vectors, &format!("after {kills} kills"));
        let (code, said) = hapax.said(&["verify"]);
        assert_eq!(code, 0, "{said}");
        super::killed::forget(&hapax);
    }
}
