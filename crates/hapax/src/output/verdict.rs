//! The verdict of the calculus, in words and as JSON.

use hapax_protocol::guarantee::{Level, Verdict};
use serde_json::{Value, json};

/// What is asked for, beside the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The least level that is accepted.
    pub required: Level,
    /// Whether the file says so.
    pub by_file: bool,
    /// Whether the verdict is at least that.
    pub is_met: bool,
}

/// One line a fact.
pub fn words(verdict: &Verdict, asked: Asked) -> Vec<String> {
    let mut lines =
        vec![verdict.level.to_string(), format!("because {} (rule {})", verdict.rule, verdict.rule.number())];
    lines.extend(verdict.assumptions.iter().map(|assumption| format!("provided that {assumption}")));
    if let Some(link) = &verdict.weakest {
        lines.push(format!("weakest link: {}", link.words));
        if let Some((change, raised)) = link.raise {
            lines.push(format!("would be {raised} with: {change}"));
        }
    }
    if let Some(refusal) = &verdict.refusal {
        lines.push(format!("refused: {refusal}"));
    }
    let who = if asked.by_file { "`delivery` asks for" } else { "least accepted without `delivery`:" };
    let outcome = if asked.is_met { "met" } else { "NOT met, a run would move nothing" };
    lines.push(format!("{who} {}: {outcome}", asked.required));
    lines
}

/// The same as JSON.
pub fn json(verdict: &Verdict, asked: Asked) -> Value {
    let weakest = verdict.weakest.as_ref().map(|link| {
        json!({
            "words": link.words,
            "raise": link.raise.map(|(change, raised)| json!({"change": change, "level": raised.to_string()})),
        })
    });
    json!({
        "level": verdict.level.to_string(),
        "rule": {"number": verdict.rule.number(), "words": verdict.rule.to_string()},
        "assumptions": verdict.assumptions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "weakest_link": weakest,
        "refusal": verdict.refusal.map(|refusal| refusal.to_string()),
        "required": asked.required.to_string(),
        "met": asked.is_met,
    })
}
