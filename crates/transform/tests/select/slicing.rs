use super::*;
use arrow::compute::concat_batches;
use hapax_engine::transform::RefusedRow;
use proptest::prelude::*;

/// Each can fail on some records, some only if what stands before them is evaluated for all.
const STATEMENTS: &[&str] = &[
    "SELECT *, a + b AS sum FROM input",
    "SELECT a / b AS q, s FROM input",
    "SELECT a FROM input WHERE b <> 0 AND a / b > 1",
    "SELECT a FROM input WHERE b = 0 OR a / b > 1",
    "SELECT a FROM input WHERE NOT (b = 0 OR a / b > 1)",
    "SELECT CASE WHEN b <> 0 THEN a / b ELSE -a END AS x FROM input WHERE s IS NOT NULL",
    "SELECT coalesce(CAST(s AS INT), a % b) AS x, s || 'x' AS y FROM input",
    "SELECT CAST(s AS SMALLINT) * a AS x FROM input WHERE a > 0 AND CAST(s AS INT) > 3 AND a / b > 0",
    "SELECT a, b <> 0 AND a / b > 1 AS p, b = 0 OR a / b > 1 AS r FROM input",
    "SELECT upper(s) AS u, TRY_CAST(s AS INT) AS n FROM input WHERE length(s) < 4 OR a * a > 0",
];

fn small() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]))
}

fn number() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        3 => Just(Some(0)),
        6 => (-5_i64..50).prop_map(Some),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN)].prop_map(Some),
    ]
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        (-9_i64..99_999).prop_map(|n| Some(n.to_string())),
        Just(Some("x".to_owned())),
        Just(Some(String::new())),
    ]
}

fn records() -> impl Strategy<Value = RecordBatch> {
    prop::collection::vec((number(), number(), text()), 0..60).prop_map(|rows| {
        let a: Int64Array = rows.iter().map(|row| row.0).collect();
        let b: Int64Array = rows.iter().map(|row| row.1).collect();
        let s: StringArray = rows.iter().map(|row| row.2.clone()).collect();
        RecordBatch::try_new(small(), vec![Arc::new(a), Arc::new(b), Arc::new(s)]).unwrap()
    })
}

/// The result with the rows of the whole, however it was cut.
fn applied(
    select: &Select,
    records: &RecordBatch,
    cuts: &[usize],
) -> (RecordBatch, Vec<usize>, Vec<RefusedRow>) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (records.num_rows() + 1)).collect();
    ends.push(records.num_rows());
    ends.sort_unstable();
    let (mut first, mut pieces, mut rows, mut refused) = (0, Vec::new(), Vec::new(), Vec::new());
    for end in ends {
        let out = select.apply(&records.slice(first, end - first));
        let count = out.records.num_rows();
        let passed = out.rows.unwrap_or_else(|| (0..end - first).collect());
        assert_eq!(passed.len(), count);
        rows.extend(passed.iter().map(|row| row + first));
        refused.extend(
            out.refused.into_iter().map(|refusal| RefusedRow { row: refusal.row + first, ..refusal }),
        );
        pieces.push(out.records);
        first = end;
    }
    (concat_batches(&select.schema(), &pieces).unwrap(), rows, refused)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_result_does_not_depend_on_how_the_batch_was_cut(
        records in records(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        statement in 0..STATEMENTS.len(),
    ) {
        let select = Select::plan(STATEMENTS[statement], small()).unwrap();
        let whole = applied(&select, &records, &[]);
        prop_assert_eq!(&applied(&select, &records, &cuts), &whole);
        let alone: Vec<usize> = (0..records.num_rows()).collect();
        prop_assert_eq!(&applied(&select, &records, &alone), &whole);
    }

    #[test]
    fn sums_are_right_or_refused(records in records()) {
        let select = Select::plan("SELECT a + b AS x, a - b AS y FROM input", small()).unwrap();
        let (a, b) = (int(&records, 0), int(&records, 1));
        let (out, rows, refused) = applied(&select, &records, &[]);
        let expected = |row: usize| match (a[row], b[row]) {
            (Some(a), Some(b)) => a.checked_add(b).zip(a.checked_sub(b)).map(|(x, y)| (Some(x), Some(y))),
            _ => Some((None, None)),
        };
        for (index, row) in rows.iter().enumerate() {
            prop_assert_eq!(Some((int(&out, 0)[index], int(&out, 1)[index])), expected(*row));
        }
        for refusal in refused {
            prop_assert_eq!(expected(refusal.row), None);
        }
    }
}

fn int(records: &RecordBatch, index: usize) -> Vec<Option<i64>> {
    use arrow::array::AsArray;
    records.column(index).as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
}
