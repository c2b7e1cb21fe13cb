//! Sending message by message on an unconnected socket (RFC 5352 6.5.1, 6.5.3, 6.5.5, 6.6).

/// Under construction.
#[derive(Debug)]
pub struct Dispatch {}
