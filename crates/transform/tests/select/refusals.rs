use super::*;
use hapax_engine::fault::Fault;
use hapax_transform::{SelectError, codes};

fn refusal(sql: &str) -> SelectError {
    match Select::plan(sql, schema()) {
        Err(error) => {
            assert!(!error.help().is_empty());
            error
        }
        Ok(_) => panic!("not refused: {sql}"),
    }
}

/// The text the error points at.
fn pointed(sql: &str) -> &str {
    let place = refusal(sql).place().unwrap_or_else(|| panic!("no place: {sql}"));
    &sql[place.start..place.end]
}

fn line_column(sql: &str) -> (u64, u64) {
    let place = refusal(sql).place().unwrap_or_else(|| panic!("no place: {sql}"));
    (place.line, place.column)
}

#[test]
fn what_needs_more_than_one_record() {
    let cases = [
        ("SELECT count(*) FROM input", "the aggregate `count`"),
        ("SELECT sum(amount) AS s FROM input", "the aggregate `sum`"),
        ("SELECT upper(max(Status)) AS s FROM input", "the aggregate `max`"),
        ("SELECT id FROM input WHERE amount > avg(amount)", "the aggregate `avg`"),
        ("SELECT row_number() OVER (ORDER BY id) AS n FROM input", "the window function `row_number`"),
        ("SELECT abs(amount) OVER () AS n FROM input", "the window function `abs`"),
        ("SELECT lag(amount) FROM input", "the window function `lag`"),
        ("SELECT id FROM input JOIN other ON true", "a JOIN"),
        ("SELECT id FROM input, other", "a join with a second table"),
        ("SELECT DISTINCT id FROM input", "DISTINCT"),
        ("SELECT DISTINCT ON (id) id FROM input", "DISTINCT"),
        ("SELECT id FROM input ORDER BY id", "ORDER BY"),
        ("SELECT id FROM input LIMIT 5", "LIMIT"),
        ("SELECT id FROM input OFFSET 5", "OFFSET"),
        ("SELECT id FROM input FETCH FIRST 5 ROWS ONLY", "FETCH FIRST"),
        ("SELECT TOP 5 id FROM input", "TOP"),
        ("SELECT id FROM input GROUP BY id", "GROUP BY"),
        ("SELECT id FROM input GROUP BY ALL", "GROUP BY"),
        ("SELECT id FROM input HAVING id > 1", "HAVING"),
        ("SELECT id FROM input QUALIFY id > 1", "QUALIFY"),
        ("SELECT id FROM input UNION ALL SELECT id FROM input", "UNION"),
        ("SELECT id FROM input EXCEPT SELECT id FROM input", "EXCEPT"),
        ("SELECT (SELECT 1) AS x FROM input", "a subquery"),
        ("SELECT id FROM input WHERE id IN (SELECT id FROM input)", "a subquery"),
        ("SELECT id FROM input WHERE EXISTS (SELECT 1)", "a subquery"),
        ("SELECT id FROM (SELECT * FROM input) AS t", "a subquery"),
        ("WITH t AS (SELECT 1) SELECT id FROM input", "a WITH clause"),
        ("SELECT id FROM input TABLESAMPLE (10 ROWS)", "TABLESAMPLE"),
    ];
    for (sql, what) in cases {
        match refusal(sql) {
            SelectError::AcrossRecords { what: found, .. } => assert_eq!(found, what, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(refusal("SELECT count(*) FROM input").code(), codes::ACROSS_RECORDS);
    assert_eq!(pointed("SELECT 1, sum(amount) FROM input"), "sum");
    assert_eq!(pointed("SELECT id FROM input ORDER BY amount"), "amount");
}

#[test]
fn what_would_be_different_on_a_replay() {
    let calls = [
        "now()",
        "current_timestamp",
        "current_date",
        "current_date()",
        "current_time",
        "NOW()",
        "random()",
        "uuid()",
        "gen_random_uuid()",
        "localtimestamp",
        "input_file_name()",
    ];
    for call in calls {
        let sql = format!("SELECT id, {call} AS x FROM input");
        let error = refusal(&sql);
        assert_eq!(error.code(), codes::NOT_DETERMINISTIC, "{call}: {error:?}");
    }
    let error = refusal("SELECT now() AS x FROM input");
    let SelectError::NotDeterministic { function, why, .. } = &error else { panic!("{error:?}") };
    assert_eq!((function.as_str(), *why), ("now", "reads the clock"));
    assert!(error.to_string().contains("after a crash the same record would get another value"));
    assert_eq!(pointed("SELECT id\nFROM input\nWHERE day < current_date"), "current_date");
    assert_eq!(line_column("SELECT id\nFROM input\nWHERE day < current_date"), (3, 13));
    assert_eq!(refusal("SELECT version() FROM input").code(), codes::UNKNOWN_FUNCTION);
}

#[test]
fn no_function_of_the_library_that_changes_is_callable() {
    for function in
        ["now", "current_date", "current_time", "random", "uuid", "input_file_name", "file_row_index"]
    {
        let error = refusal(&format!("SELECT {function}() AS x FROM input"));
        assert_eq!(error.code(), codes::NOT_DETERMINISTIC, "{function}");
    }
}

#[test]
fn columns_that_are_not_there() {
    let error = refusal("SELECT id, status FROM input");
    let SelectError::UnknownColumn { name, suggestion, .. } = &error else { panic!("{error:?}") };
    assert_eq!((name.as_str(), suggestion.as_deref()), ("status", Some("Status")));
    assert_eq!(error.code(), codes::UNKNOWN_COLUMN);
    assert_eq!(pointed("SELECT id, status FROM input"), "status");
    assert_eq!(line_column("SELECT id, status FROM input"), (1, 12));

    let quoted = refusal("SELECT id FROM input WHERE Status = \"nothing like it\"");
    assert!(quoted.help().contains("single quotes"), "{}", quoted.help());
    let spaced = refusal("SELECT two_words FROM input");
    assert!(spaced.help().contains("\"two words\""), "{}", spaced.help());
    for sql in [
        "SELECT zzz FROM input",
        "SELECT id FROM input WHERE zzz > 1",
        "SELECT upper(zzz) AS x FROM input",
        "SELECT other.id FROM input",
        "SELECT input.id FROM input AS i",
        "SELECT * EXCLUDE (zzz) FROM input",
        "SELECT * EXCEPT (zzz) FROM input",
        "SELECT * REPLACE (1 AS zzz) FROM input",
        "SELECT * REPLACE (zzz AS id) FROM input",
        "SELECT * RENAME (zzz AS id) FROM input",
        "SELECT id AS a, a + 1 AS b FROM input",
    ] {
        assert_eq!(refusal(sql).code(), codes::UNKNOWN_COLUMN, "{sql}: {:?}", refusal(sql));
        assert!(refusal(sql).place().is_some(), "{sql}");
    }
    assert_eq!(pointed("SELECT 'größer', größe FROM input"), "größe");
}

#[test]
fn functions_that_are_not_there() {
    let error = refusal("SELECT uper(Status) AS x FROM input");
    let SelectError::UnknownFunction { suggestion, .. } = &error else { panic!("{error:?}") };
    assert_eq!(suggestion.as_deref(), Some("upper"));
    assert_eq!(pointed("SELECT uper(Status) AS x FROM input"), "uper");
    assert_eq!(refusal("SELECT qqqqq(1) AS x FROM input").code(), codes::UNKNOWN_FUNCTION);
}

#[test]
fn types_that_do_not_fit() {
    for (sql, part) in [
        ("SELECT id, Status + day AS x FROM input", "Status + day AS x"),
        ("SELECT id, upper(Status, 2) AS x FROM input", "upper(Status, 2) AS x"),
        ("SELECT id FROM input WHERE id + 1", "id + 1"),
        ("SELECT id, date_trunc('month') AS x FROM input", "date_trunc('month') AS x"),
    ] {
        let error = refusal(sql);
        assert_eq!(error.code(), codes::WRONG_TYPE, "{sql}: {error:?}");
        assert_eq!(pointed(sql), part, "{error}");
    }
}

#[test]
fn names_given_twice() {
    for sql in
        ["SELECT id, id FROM input", "SELECT *, 1 AS id FROM input", "SELECT id, amount AS id FROM input"]
    {
        assert_eq!(refusal(sql).code(), codes::NAMED_TWICE, "{sql}");
    }
    assert_eq!(pointed("SELECT id, amount AS id FROM input"), "amount AS id");
}

#[test]
fn what_fails_on_every_record_fails_at_once() {
    for sql in [
        "SELECT id, CAST('abc' AS INT) AS x FROM input",
        "SELECT id, 1 / 0 AS x FROM input",
        "SELECT id, 9223372036854775807 + 1 AS x FROM input",
        "SELECT id FROM input WHERE day > CAST('2024-13-01' AS DATE)",
    ] {
        let error = refusal(sql);
        assert_eq!(error.code(), codes::ALWAYS_FAILS, "{sql}: {error:?}");
        assert!(error.place().is_some(), "{sql}");
    }
    select("SELECT CASE WHEN id < 0 THEN CAST('abc' AS INT) ELSE 1 END AS x FROM input");
    select("SELECT id FROM input WHERE id < 0 OR CAST('abc' AS INT) > 1");
}

#[test]
fn what_is_not_a_select_from_input() {
    for sql in [
        "SELECT id FROM orders",
        "SELECT id FROM other.input",
        "SELECT 1",
        "DELETE FROM input",
        "INSERT INTO input VALUES (1)",
        "SELECT id FROM input; SELECT id FROM input",
        "VALUES (1)",
        "SELECT id FROM read_csv('x')",
        "SELECT other.* FROM input",
    ] {
        let error = refusal(sql);
        assert_eq!(error.code(), codes::NOT_A_SELECT, "{sql}: {error:?}");
    }
    assert_eq!(pointed("SELECT id FROM orders"), "orders");
}

#[test]
fn what_is_not_sql() {
    for (sql, at) in [
        ("SELECT id FROM", Some((1, 15))),
        ("SELECT id FROM input WHERE", Some((1, 27))),
        ("SELECT id,\n  (amount FROM input", Some((2, 11))),
        ("SELEC id FROM input", Some((1, 1))),
        ("SELECT 'abc FROM input", Some((1, 8))),
        ("", Some((1, 1))),
        ("SELECT id FROM input )", Some((1, 22))),
    ] {
        let error = refusal(sql);
        assert_eq!(error.code(), codes::SYNTAX, "{sql}: {error:?}");
        assert!(!error.to_string().contains("Line:"), "{error}");
        if let Some(at) = at {
            assert_eq!(line_column(sql), at, "{sql}: {error}");
        }
    }
    let deep = format!("SELECT {}1{} AS x FROM input", "(".repeat(500), ")".repeat(500));
    assert_eq!(refusal(&deep).code(), codes::SYNTAX);
}

#[test]
fn what_is_not_evaluated() {
    for sql in [
        "SELECT $1 AS x FROM input",
        "SELECT id FROM input WHERE id = ?",
        "SELECT * ILIKE '%a%' FROM input",
        "SELECT unnest(Status) AS x FROM input",
        "SELECT FROM input",
        "FROM input SELECT id",
        "SELECT id INTO other FROM input",
        "SELECT * EXCLUDE (id, Status, amount, price, raw, day, \"two words\") FROM input",
    ] {
        assert_eq!(refusal(sql).code(), codes::NOT_SUPPORTED, "{sql}: {:?}", refusal(sql));
    }
}
