//! The one place where a dialect makes a difference.

/// How the peer of a link, or the sender of an announcement, speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Dialect {
    /// Not known yet.
    #[default]
    Unknown,
    /// As the RFCs say.
    Rfc,
    /// As RSPLIB does.
    Rsplib,
}
