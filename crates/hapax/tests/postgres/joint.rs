//! An outbox and where its rows go in one database, moved by the real binary, which is killed.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Database, command, hapax};

/// How many rows have to move, fifty of them in each commit.
const ROWS: i64 = 1_000;

const OUTBOX: &str = "\
    CREATE TABLE outbox (id bigint PRIMARY KEY, topic text, payload jsonb, processed_at timestamptz); \
    CREATE INDEX ON outbox (id) WHERE processed_at IS NULL; \
    INSERT INTO outbox SELECT g, 'topic ' || g % 7, jsonb_build_object('n', g) FROM generate_series(1, 1000) g; \
    CREATE TABLE arrived (id bigint NOT NULL, topic text, payload jsonb CHECK (payload ->> 'n' <> '77'))";

/// What is marked without an effect, or has an effect without a mark, or more than one: as one look sees it.
const APART: &str = "\
    SELECT count(*) FROM outbox o FULL JOIN (SELECT id, count(*) AS times FROM (SELECT id FROM arrived UNION ALL \
      SELECT (convert_from(raw, 'UTF8')::json ->> 'id')::bigint FROM _hapax_dead_letters) e GROUP BY id) a USING (id) \
    WHERE (o.processed_at IS NULL) <> (a.id IS NULL) OR a.times > 1";

const WAITING: &str = "SELECT count(*) FROM outbox WHERE processed_at IS NULL";

/// Every point that a run of this pair passes.
const POINTS: [&str; 12] = [
    "prepared",
    "lease-acquired",
    "position-read",
    "batch-read",
    "claimed",
    "mid-write",
    "commit-before",
    "commit-after",
    "acknowledge-before",
    "acknowledge-after",
    "split-done",
    "finish-before",
];

struct Case {
    database: Database,
    folder: tempfile::TempDir,
}

impl Case {
    fn new(name: &str, rest: &str) -> Self {
        let (database, folder) = (Database::new(name), tempfile::tempdir().unwrap());
        database.sql(OUTBOX);
        let case = Self { database, folder };
        // Hapax's own tables are there, so that whoever looks finds them.
        case.database.sql("UPDATE outbox SET processed_at = now()");
        case.write("");
        case.run();
        case.write(rest);
        case.database.sql("UPDATE outbox SET processed_at = NULL");
        case
    }

    fn write(&self, rest: &str) {
        let text = format!(
            "name: outbox\nsource:\n  postgres: {{ url: '${{env:SOURCE_URL}}', table: outbox, read: marked, \
             mark: processed_at, poll_ms: 20 }}\nidentity: {{ key: [id] }}\nduplicates: keep\n\
             transform: SELECT id, topic, payload FROM input\n\
             sink:\n  postgres: {{ url: '${{env:TARGET_URL}}', table: arrived }}\n\
             parallel: 4\ndelivery: exactly-once\n{rest}"
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("p.yaml")
    }

    fn command(&self, crash: &str) -> Command {
        let file = self.file();
        let mut command = command(&["run", file.to_str().unwrap()], &self.database, &self.database);
        if !crash.is_empty() {
            command.env("HAPAX_CRASH", crash);
        }
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    }

    fn run(&self) {
        hapax(&["run", self.file().to_str().unwrap(), "--json"], &self.database, &self.database);
    }

    fn again(&self) {
        self.database.sql("UPDATE outbox SET processed_at = NULL; TRUNCATE arrived, _hapax_dead_letters");
    }

    fn whole(&self, why: &str) {
        assert_eq!(
            self.database.number(APART),
            0,
            "{why}: a mark without its effect, or an effect without its mark"
        );
    }

    /// Runs until nothing waits. What a killed run had locked may be there for a moment.
    fn complete(&self, why: &str) {
        let began = Instant::now();
        while self.database.number(WAITING) > 0 {
            assert!(began.elapsed() < Duration::from_secs(120), "{why}: rows stay behind");
            self.run();
        }
        self.whole(why);
        assert_eq!(self.database.number("SELECT count(*) FROM arrived"), ROWS - 1, "{why}");
        assert_eq!(self.database.number("SELECT count(*) FROM _hapax_dead_letters"), 1, "{why}");
        let content = "SELECT count(*) FROM outbox JOIN arrived USING (id, topic, payload)";
        assert_eq!(self.database.number(content), ROWS - 1, "{why}");
    }
}

fn ended(mut child: Child) -> (Option<i32>, Option<i32>) {
    let status = child.wait().unwrap();
    (status.code(), status.signal())
}

#[test]
fn killed_at_every_point_each_row_arrives_once_with_its_mark() {
    let case = Case::new("joint_points", "commit: { records: 50 }\n");
    for point in POINTS {
        case.again();
        let mut kills = 0;
        for number in [1, 3, 2] {
            let end = ended(case.command(&format!("{point}:{number}")).spawn().unwrap());
            assert!(matches!(end, (Some(0), _) | (_, Some(9))), "{point}:{number} ended as {end:?}");
            kills += i32::from(end.1 == Some(9));
            case.whole(point);
        }
        assert!(kills > 0, "nothing was killed at {point}");
        case.complete(point);
    }
    for lost in ["answer-lost-before:3", "answer-lost-after:3", "answer-lost-after:1"] {
        case.again();
        let end = ended(case.command(lost).spawn().unwrap());
        assert_eq!(end.0, Some(0), "{lost}");
        case.whole(lost);
        case.complete(lost);
    }
}

#[test]
fn killed_at_any_moment_and_started_twice_each_row_arrives_once_with_its_mark() {
    let case = Case::new("joint_moments", "commit: { records: 10 }\n");
    let began = Instant::now();
    case.complete("a run without any kill");
    let usual = began.elapsed();
    let wanted: u32 = std::env::var("HAPAX_KILLS").map_or(30, |kills| kills.parse().unwrap());
    let (mut kills, mut fenced, mut round) = (0, 0, 0_u32);
    while kills < wanted {
        round += 1;
        if case.database.number(WAITING) == 0 {
            case.again();
        }
        let (mut first, mut second) =
            (case.command("").spawn().unwrap(), (round % 2 == 0).then(|| case.command("").spawn().unwrap()));
        std::thread::sleep(usual.mul_f64(f64::from(round * 37 % 100) / 100.0));
        first.kill().unwrap();
        let end = ended(first);
        kills += u32::from(end.1 == Some(9));
        case.whole("killed");
        if let Some(second) = second.take() {
            let end = ended(second);
            assert!(matches!(end.0, Some(0 | 5)), "the second ended as {end:?}");
            fenced += u32::from(end.0 == Some(5));
            case.whole("started twice");
        }
    }
    case.complete(&format!("{kills} kills, {fenced} fenced"));
}

#[test]
fn a_plan_says_what_it_rests_on_and_a_run_that_goes_on_takes_what_comes() {
    let case = Case::new("joint_follow", "follow: true\n");
    let plan =
        command(&["plan", case.file().to_str().unwrap()], &case.database, &case.database).output().unwrap();
    let said = String::from_utf8(plan.stdout).unwrap();
    for words in [
        "exactly-once",
        "(rule 5)",
        "the mark at the source and the effect at the sink are one transaction",
        "nobody but Hapax marks a row that waits",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("alters"), "{said}");
    let running = case.command("").spawn().unwrap();
    let arrive = |wanted: i64| {
        let began = Instant::now();
        while case.database.number("SELECT count(*) FROM arrived") < wanted {
            assert!(began.elapsed() < Duration::from_secs(120), "rows do not arrive");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    arrive(ROWS - 1);
    case.database.sql("INSERT INTO outbox SELECT g, 'late', '{}' FROM generate_series(2001, 2010) g");
    arrive(ROWS + 9);
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(ended(running).0, Some(0));
    case.whole("stopped");
    assert_eq!(case.database.number(WAITING), 0);
}

/// Between two databases the mark follows the effect, and the ledger knows what comes again. Workers move at once.
#[test]
fn between_two_databases_several_workers_lose_and_repeat_nothing() {
    let (source, target) = (Database::new("apart_source"), Database::new("apart_target"));
    source.sql(OUTBOX);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(
        &file,
        "name: outbox\nsource:\n  postgres: { url: '${env:SOURCE_URL}', table: outbox, read: marked, mark: processed_at }\n\
         identity: { key: [id] }\nduplicates: drop\ntransform: SELECT id, topic, payload FROM input\n\
         sink:\n  postgres: { url: '${env:TARGET_URL}', table: arrived }\n\
         parallel: 4\ncommit: { records: 50 }\ndelivery: exactly-once\n",
    )
    .unwrap();
    let run = ["run", file.to_str().unwrap(), "--json"];
    let plan = command(&["plan", run[1]], &source, &target).output().unwrap();
    let said = String::from_utf8(plan.stdout).unwrap();
    assert!(said.contains("(rule 4)") && said.contains("4 at a time"), "{said}");
    for point in [
        "batch-read:4",
        "claimed:3",
        "commit-before:3",
        "commit-after:3",
        "acknowledge-before:2",
        "acknowledge-after:3",
    ] {
        source.sql("UPDATE outbox SET processed_at = NULL");
        target.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        let killed = command(&run, &source, &target).env("HAPAX_CRASH", point).output().unwrap();
        assert!(killed.status.code().is_none(), "it was not killed at {point}");
        let began = Instant::now();
        while source.number(WAITING) > 0 {
            assert!(began.elapsed() < Duration::from_secs(120), "killed at {point}: rows stay behind");
            hapax(&run, &source, &target);
        }
        let counts = ["SELECT count(*) FROM arrived", "SELECT count(DISTINCT id) FROM arrived"];
        assert_eq!(counts.map(|sql| target.number(sql)), [ROWS, ROWS], "killed at {point}");
    }
    // A ledger that forgets cannot know a row that waited for longer.
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("table: arrived }", "table: arrived, ledger_retention: 30d }");
    std::fs::write(&file, text).unwrap();
    let plan = command(&["plan", run[1]], &source, &target).output().unwrap();
    let said = String::from_utf8(plan.stdout).unwrap();
    assert_eq!(plan.status.code(), Some(3), "{said}");
    assert!(said.contains("at-least-once"), "{said}");
}

/// The look that finds nothing elsewhere finds it where the sink's role may not mark: two transactions.
#[test]
fn what_is_looked_for_is_found_where_mark_and_effect_are_two_transactions() {
    let case = Case::new("joint_apart", "commit: { records: 50 }\n");
    let role = format!("{}_writer", case.database.name);
    case.database.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'w'; GRANT USAGE, CREATE ON SCHEMA public TO {role}; \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; REVOKE ALL ON outbox FROM {role}"
    ));
    let text = std::fs::read_to_string(case.file()).unwrap();
    std::fs::write(case.file(), text.replace("delivery: exactly-once", "delivery: at-least-once")).unwrap();
    let (_, behind) = case.database.server.split_once('@').unwrap();
    let url = format!("postgres://{role}:w@{}/{}", behind.split_once('/').unwrap().0, case.database.name);
    let killed = case.command("acknowledge-before:2").env("TARGET_URL", url).spawn().unwrap();
    assert_eq!(ended(killed).1, Some(9));
    assert!(case.database.number(APART) > 0, "the look is blind");
    case.database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
