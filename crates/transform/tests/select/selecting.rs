use super::*;

#[test]
fn columns_come_out_in_the_order_named_with_their_types() {
    let select = select("SELECT amount, id AS order_id FROM input");
    let expected = Schema::new(vec![
        Field::new("amount", DataType::Int32, true),
        Field::new("order_id", DataType::Int64, false),
    ]);
    assert_eq!(select.schema().as_ref(), &expected);
    let out = select.apply(&orders());
    assert_eq!(column(&out.records, 1), ["1", "2", "3", "4", "5"]);
    assert_eq!(out.rows, None);
}

#[test]
fn names_are_matched_as_written() {
    assert_eq!(values("Status"), ["paid", "open", "-", "Paid", "paid"]);
    assert_eq!(values("\"two words\"")[1], "b c");
    assert_eq!(values("input.Status")[0], "paid");
    let out = apply("SELECT o.id, o.Status FROM input AS o WHERE o.id > 4");
    assert_eq!(names(&out.records.schema()), ["id", "Status"]);
    assert_eq!(column(&out.records, 0), ["5"]);
}

#[test]
fn a_column_without_a_name_is_called_by_its_expression() {
    let select = select("SELECT amount + 1, upper(Status), 'x' FROM input");
    assert_eq!(names(&select.schema()), ["amount + 1", "upper(Status)", "'x'"]);
}

#[test]
fn star_is_every_column() {
    let out = apply("SELECT * FROM input");
    assert_eq!(out.records, orders());
    assert_eq!(out.rows, None);
    let out = apply("SELECT input.*, id * 2 AS twice FROM input");
    assert_eq!(out.records.num_columns(), 8);
    assert_eq!(column(&out.records, 7), ["2", "4", "6", "8", "10"]);
}

#[test]
fn star_can_leave_out_replace_and_rename() {
    for list in ["* EXCLUDE (raw, \"two words\")", "* EXCEPT (raw, \"two words\")"] {
        let select = select(&format!("SELECT {list} FROM input"));
        assert_eq!(names(&select.schema()), ["id", "Status", "amount", "price", "day"], "{list}");
    }
    let select = select("SELECT * EXCLUDE raw FROM input");
    assert_eq!(select.schema().fields().len(), 6);
    let out = apply("SELECT * REPLACE (upper(Status) AS Status) FROM input");
    assert_eq!(column(&out.records, 1), ["PAID", "OPEN", "-", "PAID", "PAID"]);
    assert_eq!(names(&out.records.schema())[1], "Status");
    let select = super::select("SELECT * RENAME (id AS order_id) FROM input");
    assert_eq!(names(&select.schema())[0], "order_id");
}

#[test]
fn where_keeps_what_is_true_and_says_which_rows() {
    let out = apply("SELECT id FROM input WHERE amount > 0");
    assert_eq!(column(&out.records, 0), ["1", "5"]);
    assert_eq!(out.rows, Some(vec![0, 4]));
    assert_eq!(out.refused, []);
    assert_eq!(apply("SELECT id FROM input WHERE NOT (amount > 0)").rows, Some(vec![1, 2]));
    assert_eq!(apply("SELECT id FROM input WHERE amount IS NULL").rows, Some(vec![3]));
    assert_eq!(apply("SELECT id FROM input WHERE true").rows, None);
    assert_eq!(apply("SELECT id FROM input WHERE NULL").rows, Some(vec![]));
    assert_eq!(apply("SELECT id FROM input WHERE id IN (1, 3, 9)").rows, Some(vec![0, 2]));
    assert_eq!(apply("SELECT id FROM input WHERE id BETWEEN 2 AND 3").rows, Some(vec![1, 2]));
    assert_eq!(apply("SELECT id FROM input WHERE Status LIKE 'p%'").rows, Some(vec![0, 4]));
    assert_eq!(apply("SELECT id FROM input WHERE Status ILIKE 'p%'").rows, Some(vec![0, 3, 4]));
    assert_eq!(apply("SELECT id FROM input WHERE raw ~ '^[0-9]+$'").rows, Some(vec![0, 2, 4]));
    assert_eq!(apply("SELECT 1 AS one FROM input WHERE id = 2").rows, Some(vec![1]));
}

#[test]
fn casts_convert() {
    assert_eq!(values("CAST(id AS VARCHAR)"), ["1", "2", "3", "4", "5"]);
    assert_eq!(values("id::DOUBLE")[0], "1.0");
    assert_eq!(values("TRY_CAST(raw AS INT)"), ["7", "-", "12", "-", "-"]);
    assert_eq!(values("CAST(raw AS TEXT)")[1], "abc");
    assert_eq!(values("CAST(day AS VARCHAR)"), ["2024-10-04", "2024-11-04", "-", "1970-01-01", "1969-12-31"]);
    assert_eq!(values("CAST('2024-02-29' AS DATE)")[0], "2024-02-29");
    assert_eq!(values("CAST(amount AS DECIMAL(12, 2))")[0], "10.00");
    assert_eq!(values("arrow_cast(id, 'Int16')")[4], "5");
    let types: Vec<DataType> = ["CAST(id AS VARCHAR)", "Status || '!'", "substr(Status, 1, 1)", "NULL"]
        .iter()
        .map(|e| select(&format!("SELECT {e} AS x FROM input")).schema().field(0).data_type().clone())
        .collect();
    assert_eq!(types, vec![DataType::Utf8; 4]);
}

#[test]
fn null_is_handled_as_sql_says() {
    assert_eq!(values("coalesce(Status, 'none')"), ["paid", "open", "none", "Paid", "paid"]);
    assert_eq!(values("coalesce(amount, id)")[3], "4");
    assert_eq!(values("nvl(amount, 0)")[3], "0");
    assert_eq!(values("nvl2(amount, 'some', 'none')")[3], "none");
    assert_eq!(values("nullif(amount, 0)"), ["10", "-4", "-", "-", "2147483647"]);
    assert_eq!(values("amount IS NULL")[3], "true");
    assert_eq!(values("Status || 'x'")[2], "-");
    assert_eq!(values("concat(Status, 'x')")[2], "x");
    let schema = select("SELECT coalesce(amount, 0) AS a, amount AS b, id + 1 AS c FROM input").schema();
    let nullable: Vec<bool> = schema.fields().iter().map(|field| field.is_nullable()).collect();
    assert_eq!(nullable, [false, true, false]);
}

#[test]
fn case_chooses_and_evaluates_only_what_it_chooses() {
    let chosen = values("CASE WHEN amount > 0 THEN 'in' WHEN amount < 0 THEN 'out' ELSE 'none' END");
    assert_eq!(chosen, ["in", "out", "none", "none", "in"]);
    assert_eq!(values("CASE Status WHEN 'paid' THEN 1 WHEN 'open' THEN 2 END"), ["1", "2", "-", "-", "1"]);
    let safe = values("CASE WHEN amount <> 0 AND amount < 100 THEN 100 / amount ELSE 0 END");
    assert_eq!(safe, ["10", "-25", "0", "0", "0"]);
    assert_eq!(
        values("CASE WHEN raw ~ '^[0-9]{1,9}$' THEN CAST(raw AS INT) END"),
        ["7", "-", "12", "-", "-"]
    );
}

#[test]
fn functions_over_text() {
    assert_eq!(values("trim(\"two words\")")[0], "a");
    assert_eq!(values("upper(\"two words\")")[4], "Ü");
    assert_eq!(values("character_length(\"two words\")")[4], "1");
    assert_eq!(values("octet_length(\"two words\")")[4], "2");
    assert_eq!(values("split_part(\"two words\", ',', 2)")[2], "e");
    assert_eq!(values("replace(Status, 'p', 'P')")[0], "Paid");
    assert_eq!(values("substring(Status FROM 2 FOR 2)")[1], "pe");
    assert_eq!(values("left(Status, 1) || right(Status, 1)")[1], "on");
    assert_eq!(values("lpad(CAST(id AS VARCHAR), 4, '0')")[1], "0002");
    assert_eq!(values("position('a' IN Status)")[0], "2");
    assert_eq!(values("regexp_replace(raw, '[a-z]', '*', 'g')")[1], "***");
    assert_eq!(values("regexp_like(Status, '^p')"), ["true", "false", "-", "false", "true"]);
    assert_eq!(values("starts_with(Status, 'pa')")[0], "true");
    assert_eq!(values("md5(Status)")[1], "7cef8a734855777c2a9d0caf42666e69");
    assert_eq!(values("encode(sha256(Status), 'hex')")[0].len(), 64);
}

#[test]
fn functions_over_time() {
    assert_eq!(values("date_part('year', day)")[0], "2024");
    assert_eq!(values("EXTRACT(MONTH FROM day)")[0], "10");
    assert_eq!(values("CAST(date_trunc('month', day) AS DATE)")[1], "2024-11-01");
    assert_eq!(values("to_timestamp('2024-10-04T12:30:00')")[0], "2024-10-04T12:30:00");
    assert_eq!(values("to_date('2024-10-04')")[0], "2024-10-04");
    assert_eq!(values("CAST(day + INTERVAL '1' DAY AS DATE)")[3], "1970-01-02");
    assert_eq!(values("day - DATE '1970-01-01'")[1], "20031");
    assert_eq!(values("to_char(day, '%d.%m.%Y')")[0], "04.10.2024");
}

#[test]
fn functions_over_numbers() {
    assert_eq!(values("round(price)"), ["2.0", "2.0", "-", "0.0", "9.0"]);
    assert_eq!(values("abs(-id)")[1], "2");
    assert_eq!(values("-id")[1], "-2");
    assert_eq!(values("id % 2"), ["1", "0", "1", "0", "1"]);
    assert_eq!(values("id / 2")[4], "2");
    assert_eq!(values("id / 2.0")[4], "2.5");
    assert_eq!(values("price / 0.0")[0], "inf");
    assert_eq!(values("greatest(id, 3)")[0], "3");
    assert_eq!(values("-9223372036854775808")[0], "-9223372036854775808");
}

#[test]
fn an_empty_batch_stays_empty() {
    let select = select("SELECT id, upper(Status) AS s FROM input WHERE amount > 0");
    let out = select.apply(&RecordBatch::new_empty(schema()));
    assert_eq!((out.records.num_rows(), out.records.schema()), (0, select.schema()));
    assert_eq!(out.refused, []);
}

#[test]
fn a_comment_and_a_semicolon_are_no_obstacle() {
    let out = apply("SELECT id -- the key\nFROM input /* all */ WHERE id = 1;");
    assert_eq!(column(&out.records, 0), ["1"]);
}

#[test]
fn the_guide_tells_the_truth_about_the_edges() {
    assert_eq!(values("CAST(1.9 AS INT)")[0], "1");
    assert_eq!(values("7 / 2")[0], "3");
    assert_eq!(values("CAST(9007199254740993 AS DOUBLE)")[0], "9007199254740992.0");
    assert_eq!(values("(id << 63) << 1")[0], "0");
    assert_eq!(values("CAST('23:30:00' AS TIME) + INTERVAL '1' HOUR")[0], "00:30:00");
    assert_eq!(values("TRY_CAST('2023-02-29' AS DATE)")[0], "-");
    let kinds = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT UNSIGNED",
        "INT UNSIGNED",
        "BIGINT UNSIGNED",
        "REAL",
        "DOUBLE",
        "DECIMAL(9, 3)",
        "TEXT",
        "VARCHAR",
    ];
    for kind in kinds {
        select(&format!("SELECT CAST(id AS {kind}) AS x FROM input"));
    }
    for kind in ["BYTEA", "DATE", "TIME", "TIMESTAMP"] {
        select(&format!("SELECT CAST(raw AS {kind}) AS x FROM input"));
    }
}
