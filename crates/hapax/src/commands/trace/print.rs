//! A trace for people, and as JSON.

use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::history::Committed;
use serde_json::{Value, json};

use super::gather::Trace;
use crate::commands::dead_letters::{name, settlement_json, settlement_words};
use crate::output::figures::{count, counted, date};
use crate::trace::{Decision, Traced};

pub fn words(trace: &Trace) -> String {
    let mut lines = vec![format!("record {}", trace.given)];
    lines.extend(trace.ids.iter().filter(|_| trace.ids.len() == 1).map(|id| format!("identity {id}")));
    for traced in &trace.arrivals {
        lines.push(format!("{}  {}", name(&traced.place), decision_words(&traced.decision)));
        lines.extend(more_words(trace, traced).into_iter().map(|line| format!("    {line}")));
    }
    if trace.more > 0 {
        lines.push(format!("and {} more, not shown", counted(trace.more, "arrival")));
    }
    lines.push(match (&trace.source.unread, trace.source.found) {
        (Some(why), _) => format!("source: not read ({why})"),
        (None, 0) => "source: does not hold it".into(),
        (None, found) => format!("source: arrives {}", times(found)),
    });
    if !trace.keeps_positions {
        lines.push("the destination keeps no positions: it does not remember what was done".into());
    }
    if trace.has_ledger {
        lines.push(match trace.claimants.as_slice() {
            [] => "ledger: nobody has claimed the identity".into(),
            all => format!("ledger: claimed by {}", all.iter().map(name).collect::<Vec<_>>().join(", ")),
        });
    }
    lines.push(match &trace.destination.unread {
        Some(why) => format!("destination: not counted ({why})"),
        None => format!("destination: {} with this identity", counted(trace.destination.found, "row")),
    });
    lines.join("\n")
}

fn times(number: u64) -> String {
    if number == 1 { "once".into() } else { format!("{} times", count(number)) }
}

fn decision_words(decision: &Decision) -> String {
    match decision {
        Decision::NotReached => "not reached yet: it stands behind the committed position".into(),
        Decision::Moved => "moved".into(),
        Decision::Suppressed { of } => format!("suppressed: twin of {}", name(of)),
        Decision::SetAside(_) => "set aside".into(),
        Decision::Settled(settled) => format!("set aside, then {}", settlement_words(&settled.settlement)),
        Decision::LeftOut => "left out by the transform".into(),
        Decision::Unrecorded => "what was done with it is not recorded".into(),
    }
}

fn more_words(trace: &Trace, traced: &Traced) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(commit) = &traced.commit {
        lines.push(commit_words("in", commit));
    } else if trace.keeps_positions && traced.decision != Decision::NotReached {
        lines.push("in a commit that is not remembered, or cannot be told from the others".into());
    }
    let letter = match &traced.decision {
        Decision::SetAside(letter) => Some(letter),
        Decision::Settled(settled) => Some(&settled.letter),
        _ => None,
    };
    lines.extend(
        letter.map(|letter| format!("{} {}, {}", letter.code, date(letter.set_aside_unix_ms), letter.reason)),
    );
    lines.extend(traced.settled_in.iter().map(|commit| commit_words("settled in", commit)));
    lines.extend(traced.again.iter().map(|commit| commit_words("moved again in", commit)));
    if is_unfinished(trace, traced) {
        lines.push(
            "decided and not all visible yet: the next run, or `hapax in-doubt resolve`, completes it".into(),
        );
    }
    lines
}

fn commit_words(how: &str, commit: &Committed) -> String {
    let (first, last) = (commit.records.start, commit.records.end.saturating_sub(1));
    let records = match commit.totals.read {
        0 => String::new(),
        read if commit.records.is_empty() => format!("{}, ", counted(read, "record")),
        1 => format!("record {}, ", count(first)),
        _ => format!("records {} to {}, ", count(first), count(last)),
    };
    format!(
        "{how} commit {} of {}, {}, {records}by {} with token {}",
        commit.commit.epoch.get(),
        commit.commit.split,
        date(commit.made_unix_ms),
        commit.holder,
        commit.token
    )
}

/// Whether what happened last to it belongs to a commit that is not over.
fn is_unfinished(trace: &Trace, traced: &Traced) -> bool {
    let settled = match &traced.decision {
        Decision::Settled(settled) => Some(settled.settlement.epoch),
        _ => None,
    };
    let epoch = traced.last().map(|commit| commit.commit.epoch).max(settled);
    trace.unfinished.iter().any(|commit| commit.split == traced.place.split && Some(commit.epoch) == epoch)
}

pub fn json(trace: &Trace, pipeline: &str) -> Value {
    let arrivals: Vec<Value> = trace.arrivals.iter().map(|traced| traced_json(trace, traced)).collect();
    json!({
        "pipeline": pipeline,
        "record": trace.given,
        "identities": trace.ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "arrivals": arrivals,
        "arrivals_not_shown": trace.more,
        "source": {
            "read": trace.source.unread.is_none(),
            "why_not": trace.source.unread,
            "arrivals": trace.source.unread.is_none().then_some(trace.source.found),
        },
        "keeps_positions": trace.keeps_positions,
        "ledger": {
            "kept": trace.has_ledger,
            "claimed_by": trace.claimants.iter().map(name).collect::<Vec<_>>(),
        },
        "destination": {
            "rows": trace.destination.unread.is_none().then_some(trace.destination.found),
            "why_not": trace.destination.unread,
        },
    })
}

fn traced_json(trace: &Trace, traced: &Traced) -> Value {
    let (decision, twin_of, letter, settled) = match &traced.decision {
        Decision::NotReached => ("not-reached", None, None, None),
        Decision::Moved => ("moved", None, None, None),
        Decision::Suppressed { of } => ("suppressed", Some(name(of)), None, None),
        Decision::SetAside(letter) => ("set-aside", None, Some(letter), None),
        Decision::Settled(settled) => ("settled", None, Some(&settled.letter), Some(&settled.settlement)),
        Decision::LeftOut => ("left-out", None, None, None),
        Decision::Unrecorded => ("unrecorded", None, None, None),
    };
    json!({
        "place": name(&traced.place),
        "split": traced.place.split,
        "record": traced.place.ordinal,
        "decision": decision,
        "twin_of": twin_of,
        "letter": letter.map(letter_json),
        "settled": settled.map(settlement_json),
        "commit": traced.commit.as_ref().map(commit_json),
        "settled_in": traced.settled_in.as_ref().map(commit_json),
        "moved_again": traced.again.iter().map(commit_json).collect::<Vec<_>>(),
        "complete": (traced.decision != Decision::NotReached).then(|| !is_unfinished(trace, traced)),
    })
}

fn letter_json(letter: &DeadLetter) -> Value {
    json!({
        "code": letter.code.to_string(),
        "reason": letter.reason,
        "set_aside_unix_ms": letter.set_aside_unix_ms,
    })
}

fn commit_json(commit: &Committed) -> Value {
    json!({
        "number": commit.commit.epoch.get(),
        "token": commit.token.get(),
        "holder": commit.holder,
        "first_record": (!commit.records.is_empty() || commit.totals.read == 0).then_some(commit.records.start),
        "records": commit.totals.read,
        "totals": commit.totals,
        "made_unix_ms": commit.made_unix_ms,
    })
}
