use super::*;
use hapax_protocol::code::Code;
use hapax_transform::codes;

fn refused(out: &Transformed) -> Vec<(usize, Code)> {
    out.refused.iter().map(|refusal| (refusal.row, refusal.code)).collect()
}

#[test]
fn text_that_does_not_convert_is_refused_by_row() {
    let out = apply("SELECT id, CAST(raw AS INT) AS n FROM input");
    let code = codes::VALUE_DOES_NOT_CONVERT;
    assert_eq!(refused(&out), [(1, code), (4, code)]);
    assert_eq!(out.rows, Some(vec![0, 2, 3]));
    assert_eq!(column(&out.records, 0), ["1", "3", "4"]);
    assert_eq!(column(&out.records, 1), ["7", "12", "-"]);
    assert_eq!(
        out.refused[0].reason,
        "column `n`, CAST(raw AS INT): Cannot cast string 'abc' to value of Int32 type"
    );
}

#[test]
fn whole_numbers_do_not_wrap_around() {
    for sum in ["amount + 1", "amount * 2", "amount - (-1)", "-(-amount - 2)"] {
        let out = apply(&format!("SELECT CAST({sum} AS BIGINT) AS x FROM input"));
        assert_eq!(out.refused, [], "{sum} is computed in 64 bits");
    }
    for sum in [
        "amount + amount",
        "amount * amount",
        "id + 9223372036854775803",
        "(id + 9223372036854775802) * 1 + 1",
    ] {
        let out = apply(&format!("SELECT {sum} AS x FROM input"));
        assert_eq!(refused(&out), [(4, codes::ARITHMETIC)], "{sum}");
        assert_eq!(out.rows, Some(vec![0, 1, 2, 3]), "{sum}");
    }
    let smallest = Int64Array::from(vec![i64::MIN, 0, i64::MAX]);
    let one = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let records = RecordBatch::try_new(Arc::clone(&one), vec![Arc::new(smallest)]).unwrap();
    for (expression, row) in [("-n", 0), ("abs(n)", 0), ("n - 1", 0), ("n + 1", 2), ("0 - n", 0)] {
        let select = Select::plan(&format!("SELECT {expression} AS x FROM input"), Arc::clone(&one)).unwrap();
        let out = select.apply(&records);
        assert_eq!(out.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [row], "{expression}");
    }
}

#[test]
fn a_cast_that_does_not_fit_is_refused() {
    assert_eq!(
        refused(&apply("SELECT CAST(amount AS SMALLINT) AS x FROM input")),
        [(4, codes::VALUE_DOES_NOT_CONVERT)]
    );
    let out = apply("SELECT CAST(price AS DECIMAL(2, 1)) AS x FROM input WHERE price > 1");
    assert_eq!(out.refused, []);
    let out = apply("SELECT CAST(price * 100 AS DECIMAL(3, 0)) AS x FROM input");
    assert_eq!(out.refused.len(), 0);
    let out = apply("SELECT CAST(amount AS DECIMAL(3, 0)) AS x FROM input");
    assert_eq!(out.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [4]);
}

#[test]
fn division_by_zero_is_refused() {
    let out = apply("SELECT 100 / amount AS x FROM input");
    assert_eq!(refused(&out), [(2, codes::ARITHMETIC)]);
    assert_eq!(out.refused[0].reason, "column `x`, 100 / amount: division by zero");
    assert_eq!(out.rows, Some(vec![0, 1, 3, 4]));
}

#[test]
fn a_condition_that_fails_refuses_too() {
    let out = apply("SELECT id FROM input WHERE CAST(raw AS BIGINT) > 8");
    assert_eq!(refused(&out), [(1, codes::VALUE_DOES_NOT_CONVERT)]);
    assert_eq!(out.rows, Some(vec![2, 4]));
    assert!(
        out.refused[0].reason.starts_with("WHERE CAST(raw AS BIGINT) > 8: "),
        "{}",
        out.refused[0].reason
    );
}

#[test]
fn a_condition_guards_those_behind_it() {
    let out = apply("SELECT id FROM input WHERE raw ~ '^[0-9]+$' AND CAST(raw AS BIGINT) > 8");
    assert_eq!(out.refused, []);
    assert_eq!(out.rows, Some(vec![2, 4]));
    let out = apply("SELECT id FROM input WHERE amount <> 0 AND 100 / amount > 0");
    assert_eq!(out.refused, []);
    assert_eq!(out.rows, Some(vec![0]));
}

#[test]
fn what_was_filtered_out_is_not_computed() {
    let out = apply("SELECT CAST(raw AS INT) AS n FROM input WHERE id <> 2 AND id <> 5");
    assert_eq!(out.refused, []);
    assert_eq!(out.rows, Some(vec![0, 2, 3]));
}

#[test]
fn failures_in_several_columns_name_the_first() {
    let out = apply("SELECT 1 / (id - 2) AS a, CAST(raw AS INT) AS b, id FROM input");
    let arithmetic = codes::ARITHMETIC;
    assert_eq!(refused(&out), [(1, arithmetic), (4, codes::VALUE_DOES_NOT_CONVERT)]);
    assert_eq!(column(&out.records, 2), ["1", "3", "4"]);
    assert_eq!(column(&out.records, 0), ["-1", "1", "0"]);
    let out = apply("SELECT CAST(raw AS INT) AS b, 1 / (id - 3) AS a, id FROM input");
    assert_eq!(out.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(column(&out.records, 0), ["7", "-"]);
}

#[test]
fn every_record_may_fail() {
    let out = apply("SELECT CAST(id || 'x' AS INT) AS n FROM input");
    assert_eq!(out.refused.len(), 5);
    assert_eq!(out.records.num_rows(), 0);
    assert_eq!(out.rows, Some(vec![]));
}

#[test]
fn a_batch_of_another_schema_is_refused_whole() {
    let select = select("SELECT Status FROM input");
    let one = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let records = RecordBatch::try_new(one, vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    let out = select.apply(&records);
    assert_eq!(out.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_quarter_of_a_large_batch_failing_ends() {
    let raw: StringArray =
        (0..20_000).map(|n| Some(if n % 4 == 0 { "no".into() } else { n.to_string() })).collect();
    let one = Arc::new(Schema::new(vec![Field::new("raw", DataType::Utf8, true)]));
    let records = RecordBatch::try_new(Arc::clone(&one), vec![Arc::new(raw)]).unwrap();
    let out = Select::plan("SELECT CAST(raw AS INT) AS n FROM input", one).unwrap().apply(&records);
    assert_eq!((out.refused.len(), out.records.num_rows()), (5_000, 15_000));
    assert!(out.refused.iter().all(|refusal| refusal.row % 4 == 0));
    assert_eq!(column(&out.records, 0)[..4], ["1", "2", "3", "5"]);
}
