//! The administration socket of a daemon: a Unix stream socket on which each line is a request and gets one
//! line as answer. What the lines say is the daemon's business.
