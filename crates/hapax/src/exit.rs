//! How a command ends.

use std::process::ExitCode;

use hapax_config::{File, Mistake};
use hapax_engine::fault::Fault;
use hapax_protocol::code::Code;

/// The exit codes, each with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked.
    Done,
    /// It failed; running again goes on behind the last commit.
    Failed,
    /// The command or the file is wrong; nothing moved.
    BadCommand,
    /// The pair cannot give the guarantee that is asked for; nothing moved.
    GuaranteeNotMet,
    /// Verification found a difference.
    Difference,
    /// Another run took over.
    Fenced,
}

impl Exit {
    /// The number the process ends with.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadCommand => 2,
            Self::GuaranteeNotMet => 3,
            Self::Difference => 4,
            Self::Fenced => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in a pipeline file.
    Mistakes {
        /// The file.
        file: Box<File>,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
    /// Anything else.
    Report(Box<Report>),
}

/// What happened, where, what became of the records, and what to do.
#[derive(Debug)]
pub struct Report {
    /// The stable code.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What lies beneath, from above to below.
    pub causes: Vec<String>,
    /// Where: a split, a record.
    pub place: Option<String>,
    /// What Hapax did about it: where positions stand.
    pub kept: Option<String>,
    /// What to do now.
    pub help: String,
    /// The exit code it ends with.
    pub exit: Exit,
}

impl Report {
    /// A report of the command itself.
    pub fn new(code: Code, exit: Exit, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            place: None,
            kept: None,
            help: help.into(),
            exit,
        }
    }

    /// A report of what a part of Hapax says of its failure.
    pub fn of(fault: &dyn Fault) -> Self {
        let message = fault.to_string();
        let mut causes: Vec<String> = Vec::new();
        let mut cause = fault.source();
        while let Some(error) = cause {
            let words = error.to_string();
            // Some errors repeat what lies beneath them in their own words.
            if !message.contains(&words) && !causes.iter().any(|known| known.contains(&words)) {
                causes.push(words);
            }
            cause = error.source();
        }
        Self {
            code: fault.code(),
            message,
            causes,
            place: None,
            kept: None,
            help: fault.help(),
            exit: Exit::Failed,
        }
    }
}

impl Failure {
    /// The exit code it ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Mistakes { .. } => Exit::BadCommand,
            Self::Report(report) => report.exit,
        }
    }

    /// What happened, in one line.
    pub fn message(&self) -> &str {
        match self {
            Self::Mistakes { mistakes, .. } => {
                mistakes.first().map_or("the file has mistakes", |mistake| mistake.message.as_str())
            }
            Self::Report(report) => &report.message,
        }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}
