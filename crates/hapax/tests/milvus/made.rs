//! What `create` makes, and keys that are hashes.

use super::scene::{Server, parquet, vector};
use super::{hapax, pipeline};

const RECORDS: i64 = 101;

/// How near two vectors are: the more the nearer.
fn nearness(metric: &str, one: &[f32], other: &[f32]) -> f64 {
    let pairs = || one.iter().zip(other).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let product = pairs().map(|(a, b)| a * b).sum::<f64>();
    match metric {
        "L2" => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
        "IP" => product,
        _ => {
            let length = |all: &[f32]| all.iter().map(|n| f64::from(*n) * f64::from(*n)).sum::<f64>().sqrt();
            product / (length(one) * length(other)).max(1e-9)
        }
    }
}

#[test]
fn each_index_and_measure_is_made_as_asked() {
    let mut server = Server::of_tests();
    let folder = tempfile::tempdir().unwrap();
    let vectors: Vec<(i64, Vec<f32>)> = (0..RECORDS).map(|id| (id, vector(id, 8))).collect();
    parquet(&folder.path().join("in.parquet"), &vectors);
    for (index, metric) in [("hnsw", "ip"), ("ivf_flat", "l2"), ("hnsw", "cosine"), ("auto", "ip")] {
        let name = server.named(&format!("made_{index}_{metric}"));
        let file =
            pipeline(folder.path(), "files: { path: in.parquet }", &name, "delivery: effectively-once\n");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("metric: l2, index: flat", &format!("metric: {metric}, index: {index}"));
        std::fs::write(&file, text).unwrap();
        let hapax = hapax(&server, folder.path(), file, None);
        assert_eq!(hapax.moved(), RECORDS, "{index} {metric}");
        let (metric, asked) = (metric.to_uppercase(), [vector(7, 8), vector(60, 8)]);
        for (query, found) in asked.iter().zip(server.nearest(&name, &metric, &asked, 3)) {
            let of = |id: &i64| nearness(&metric, query, &vectors[*id as usize].1);
            let mut all: Vec<f64> = (0..RECORDS).map(|id| of(&id)).collect();
            all.sort_by(|one, other| other.total_cmp(one));
            for (place, id) in found.iter().enumerate() {
                let (is, expected) = (of(id), all[place]);
                assert!(
                    (is - expected).abs() < 1e-4,
                    "{index} {metric}: {id} has {is}, the {place}. has {expected}"
                );
            }
            assert_eq!(found.len(), 3);
        }
        let (code, said) = hapax.said(&["verify"]);
        assert_eq!(code, 0, "{index} {metric}: {said}");
        super::killed::forget(&hapax);
    }
}

#[test]
fn a_hash_of_a_record_is_a_key_of_text() {
    let mut server = Server::of_tests();
    let name = server.named("hashed");
    let folder = tempfile::tempdir().unwrap();
    // Records of 101 contents, each of them more than once.
    let vectors: Vec<(i64, Vec<f32>)> = (0..RECORDS * 3).map(|id| (id % RECORDS, vector(id, 8))).collect();
    parquet(&folder.path().join("in.parquet"), &vectors);
    let file = pipeline(folder.path(), "files: { path: in.parquet }", &name, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let write = |identity: &str, transform: &str| {
        let text = text.replace("identity: { key: [id] }", identity);
        let text = text.replace("index: flat", "index: flat, key_bytes_max: 64");
        let more = format!("{transform}delivery: effectively-once\ncommit: {{ records: 50 }}\n");
        std::fs::write(&file, format!("{text}{more}")).unwrap();
    };
    let hapax = hapax(&server, folder.path(), file.clone(), None);
    // As an identity a hash is no column, and so no key.
    write("identity: hash", "");
    let (code, said) = hapax.said(&["run"]);
    assert!(code != 0 && said.contains("HX0813"), "{said}");
    let hash = "encode(sha256(concat(cast(id AS varchar), '/', text)), 'hex')";
    write(
        "identity: { key: [hash] }",
        &format!("transform: \"SELECT {hash} AS hash, id, embedding FROM input\"\n"),
    );
    assert!(hapax.crash("commit-before:3"), "a run ended before its third commit");
    hapax.moved();
    assert_eq!(server.count(&name), RECORDS);
    let found = server.all(&name, "hash != \"\"", &["hash", "id", "embedding"]);
    assert_eq!(found.len() as i64, RECORDS);
    for one in &found {
        let id = one["id"].as_i64().unwrap();
        assert_eq!(one["embedding"], serde_json::json!(vector(id, 8)));
        assert_eq!(one["hash"].as_str().unwrap().len(), 64);
    }
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
}
