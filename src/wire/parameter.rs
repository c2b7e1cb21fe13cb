//! The parameters of RFC 5354 3.
