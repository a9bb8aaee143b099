//! The engine's error codes, 100 to 199, 430 to 439 for repairs, 449 and 452.

use hapax_protocol::code::Code;

/// The sink stands somewhere this run never brought it.
pub const DIVERGED: Code = Code(100);
/// A source delivered a batch that does not follow the last one.
pub const MISSTEP: Code = Code(101);
/// A record cannot be moved, and the pipeline asks to stop there.
pub const REJECTED: Code = Code(102);
/// A part of the run ended by a defect.
pub const DEFECT: Code = Code(103);
/// A column of the identity does not exist.
pub const IDENTITY_COLUMN: Code = Code(110);
/// A column of the key is null, so the record has no identity.
pub const KEY_NULL: Code = Code(111);
/// The column that should hold a UUID does not.
pub const NOT_A_UUID: Code = Code(112);
/// The identity was claimed by an earlier record.
pub const TWIN: Code = Code(113);
/// The destination cannot keep a ledger.
pub const NO_LEDGER: Code = Code(114);
/// A dead letter cannot be replayed.
pub const LETTER_UNREADABLE: Code = Code(115);
/// Records may have been sent longer ago than the destination drops repeats.
pub const PAST_WINDOW: Code = Code(116);
/// A destination did not say how a record ended.
pub const UNANSWERED: Code = Code(117);
/// A record may have taken effect, and is not sent again.
pub const IN_DOUBT: Code = Code(118);
/// A destination that must not be sent a record twice needs a source that replays exactly.
pub const PLACES_MOVE: Code = Code(119);
/// A destination that must not be sent a record twice takes no replays.
pub const NO_REPLAY: Code = Code(120);
/// A keeper may forget what it must not.
pub const FORGETFUL_KEEPER: Code = Code(121);
/// The source ends, and the run is to go on.
pub const BOUNDED: Code = Code(122);
/// The run is to go on, and its splits move one after another.
pub const ONE_BY_ONE: Code = Code(123);
/// A ledger beside the destination needs a source that replays exactly.
pub const LEDGER_BESIDE: Code = Code(124);
/// A destination is not shared by a group.
pub const NO_GROUPS: Code = Code(125);
/// Twins are not set aside where a record may come back as its own.
pub const TWIN_OF_ITSELF: Code = Code(126);
/// A repair needs a destination that keeps positions.
pub const NO_POSITIONS: Code = Code(430);
/// A repair found that an interrupted run has not published its file.
pub const UNPUBLISHED: Code = Code(431);
/// A commit of a repair did not take effect.
pub const NOT_REPAIRED: Code = Code(432);
/// The answer to a commit was lost on purpose.
pub const ANSWER_LOST: Code = Code(449);
/// A dead letter could put an older value over a newer one.
pub const KEY_IS_THERE: Code = Code(452);

/// All of them.
pub const ALL: &[Code] = &[
    DIVERGED,
    MISSTEP,
    REJECTED,
    DEFECT,
    IDENTITY_COLUMN,
    KEY_NULL,
    NOT_A_UUID,
    TWIN,
    NO_LEDGER,
    LETTER_UNREADABLE,
    PAST_WINDOW,
    UNANSWERED,
    IN_DOUBT,
    PLACES_MOVE,
    NO_REPLAY,
    FORGETFUL_KEEPER,
    BOUNDED,
    ONE_BY_ONE,
    LEDGER_BESIDE,
    NO_GROUPS,
    TWIN_OF_ITSELF,
    NO_POSITIONS,
    UNPUBLISHED,
    NOT_REPAIRED,
    ANSWER_LOST,
    KEY_IS_THERE,
];
