use super::Rows;

fn lines(twin_every: u64, count: u64) -> Vec<String> {
    let mut rows = Rows::new(twin_every);
    (1..=count)
        .map(|id| {
            let mut line = Vec::new();
            rows.write(id, &mut line).unwrap();
            String::from_utf8(line).unwrap()
        })
        .collect()
}

#[test]
fn the_same_seed_writes_the_same_rows() {
    assert_eq!(lines(0, 1000), lines(0, 1000));
}

#[test]
fn rows_have_the_size_that_the_bench_states() {
    let all = lines(0, 10_000);
    let mean = all.iter().map(String::len).sum::<usize>() / all.len();
    assert!((70..=100).contains(&mean), "{mean} bytes a row");
}

#[test]
fn every_nth_row_repeats_an_earlier_id() {
    let id = |line: &String| line.split(',').next().unwrap().parse::<u64>().unwrap();
    let ids: Vec<u64> = lines(20, 2000).iter().map(id).collect();
    for (at, id) in (1_u64..).zip(&ids) {
        assert_eq!(at % 20 == 0, *id < at, "row {at} has id {id}");
    }
    assert!(lines(0, 100).iter().map(id).eq(1..=100));
}
