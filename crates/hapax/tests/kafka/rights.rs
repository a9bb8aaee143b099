//! Users without the rights that a pipeline needs.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// The kinds of things that rights are given to, as the protocol numbers them.
const TOPIC: u8 = 2;
const GROUP: u8 = 3;
const TRANSACTIONAL_ID: u8 = 5;

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DESCRIBE: u8 = 8;
const DESCRIBE_CONFIGS: u8 = 10;

/// A right of the user `hapax` to something.
#[derive(Debug, Clone)]
struct Right(u8, String, u8);

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}

/// Gives rights. The client library cannot.
fn give(brokers: &str, rights: &[Right]) {
    const CREATE_ACLS: [u8; 4] = [0, 30, 0, 1];
    let mut request = [&CREATE_ACLS[..], &[0, 0, 0, 7], &text("test")].concat();
    request.extend((rights.len() as i32).to_be_bytes());
    for Right(kind, name, operation) in rights {
        // A prefix of transactional ids, the whole name of anything else.
        let pattern = if *kind == TRANSACTIONAL_ID { 4 } else { 3 };
        request.push(*kind);
        request.extend(text(name));
        request.push(pattern);
        request.extend(text("User:hapax"));
        request.extend(text("*"));
        request.extend([*operation, 3]);
    }
    let mut broker = TcpStream::connect(brokers).unwrap();
    broker.write_all(&[&(request.len() as u32).to_be_bytes()[..], &request].concat()).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).unwrap();
    // Its number, a pause, how many results, and for each an error and no words.
    let results = &answer[12..];
    assert_eq!(results.len(), 4 * rights.len(), "{answer:?}");
    assert!(results.chunks(4).all(|result| result[..2] == [0, 0]), "{answer:?}");
}

struct Guarded {
    /// Ends first: its topics are deleted at the broker.
    scene: Scene,
    own: Own,
    folder: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let own = Own::start_with("kafka", Some("HAPAX_RIGHTS"));
        let scene = Scene::at(own.url());
        Self { own, scene, folder: tempfile::tempdir().unwrap() }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.own.folder().join(name)).unwrap().trim().to_owned()
    }

    /// What both ends begin with, as that user.
    fn entered(&self) -> String {
        let security = "security: { user: hapax, password: \"${env:SECRET}\", mechanism: SCRAM-SHA-256 }";
        format!("brokers: \"{}\", {security}", self.read("sasl"))
    }

    /// Runs a command with the right password.
    fn said(&self, command: &str, file: &str) -> (Option<i32>, String) {
        self.said_as(command, file, &self.read("password"))
    }

    fn said_as(&self, command: &str, file: &str, password: &str) -> (Option<i32>, String) {
        let output = hapax(&[command, file], &[("SECRET", password.to_owned())]).output().unwrap();
        let said = said(&output);
        assert!(!said.contains(password), "it shows the password");
        (output.status.code(), said)
    }

    fn denied(&self, command: &str, file: &str, what: &str) {
        let (code, said) = self.said(command, file);
        assert!(code == Some(1) && said.contains("HX0604"), "{what}: {code:?} {said}");
    }
}

#[test]
fn a_user_without_a_right_is_told_so() {
    let guarded = Guarded::start();
    out_of_a_topic(&guarded);
    into_a_topic(&guarded);
}

fn out_of_a_topic(guarded: &Guarded) {
    let scene = &guarded.scene;
    let (topic, group) = (scene.topic("in", 1, &[]), scene.name("group"));
    order(scene, &topic, 1, 0..10);
    let file = |name: &str, more: &str, rest: &str| {
        let source = format!("kafka: {{ {}, topic: {topic}, schema: {SCHEMA}{more} }}", guarded.entered());
        let sink = format!("sqlite: {{ path: \"{}/{name}.db\", table: t }}", guarded.folder.path().display());
        pipeline(&guarded.folder, name, &source, &sink, &format!("identity: position\n{rest}"))
    };
    let plain = file("plain", "", "");
    let (code, said) = guarded.said_as("plan", &plain, "geheim-9z");
    assert!(code == Some(1) && said.contains("HX0602"), "{code:?} {said}");

    let right = |operation| Right(TOPIC, topic.clone(), operation);
    guarded.denied("plan", &plain, "nothing");
    give(&guarded.own.url(), &[right(DESCRIBE)]);
    let (code, said) = guarded.said("plan", &plain);
    assert!(code == Some(0) && said.contains("may not be looked at"), "{code:?} {said}");
    guarded.denied("run", &plain, "Describe alone");
    give(&guarded.own.url(), &[right(READ)]);
    let (code, said) = guarded.said("run", &plain);
    assert!(code == Some(0) && said.contains("moved 10 records"), "{code:?} {said}");

    // A group is joined only by who may read it.
    let shared = file("shared", &format!(", group: {group}"), "duplicates: keep\nfollow: true\n");
    guarded.denied("run", &shared, "no right to the group");
    give(&guarded.own.url(), &[Right(GROUP, group.clone(), READ)]);
    let published = file("published", &format!(", group: {group}"), "duplicates: keep\n");
    let (code, said) = guarded.said("run", &published);
    assert_eq!(code, Some(0), "{said}");
    until("the offset", || scene.published(&group, &topic, 0) == Some(10));
}

fn into_a_topic(guarded: &Guarded) {
    let scene = &guarded.scene;
    let csv = guarded.folder.path().join("in.csv");
    std::fs::write(&csv, "id\n1\n2\n3\n").unwrap();
    let wants = |topic: &str, state: &str| {
        let topic = |operation| Right(TOPIC, topic.to_owned(), operation);
        let of_state = |operation| Right(TOPIC, state.to_owned(), operation);
        let id = |operation| Right(TRANSACTIONAL_ID, state.to_owned(), operation);
        [
            topic(DESCRIBE),
            topic(WRITE),
            of_state(DESCRIBE),
            of_state(READ),
            of_state(WRITE),
            of_state(CREATE),
            of_state(DESCRIBE_CONFIGS),
            id(WRITE),
        ]
    };
    // Describe comes with Read and with Write. So one of them alone may be missing.
    for lacks in [None, Some(1), Some(3), Some(4), Some(5), Some(6), Some(7)] {
        let name = format!("sink-{}", lacks.map_or("all".to_owned(), |nth| nth.to_string()));
        let (topic, state) = (scene.topic(&name, 1, &[]), scene.name(&format!("{name}-state")));
        let rights = wants(&topic, &state);
        // A topic that is there has to be looked at: whether it is compacted must be known.
        let looks = lacks == Some(6);
        if looks {
            scene.make(&state, 1, &[("cleanup.policy", "compact")]);
        }
        let given = rights.iter().enumerate().filter(|(nth, _)| Some(*nth) != lacks);
        let given: Vec<Right> = given.map(|(_, right)| right.clone()).collect();
        give(&guarded.own.url(), &given);
        let source = format!("files: {{ path: \"{}\", schema: {{ id: int64 }} }}", csv.display());
        let sink = format!("kafka: {{ {}, topic: {topic}, state: {state}, key: [id] }}", guarded.entered());
        let file = pipeline(&guarded.folder, &name, &source, &sink, "identity: position\n");
        let (code, said) = guarded.said("run", &file);
        match lacks {
            None => assert_eq!((code, scene.messages(&topic).len()), (Some(0), 3), "{said}"),
            Some(nth) => {
                let named = if looks { "`DescribeConfigs`" } else { "HX0604" };
                assert!(code == Some(1) && said.contains(named), "{:?}: {code:?} {said}", rights[nth]);
                assert!(scene.messages(&topic).is_empty());
            }
        }
    }
}
