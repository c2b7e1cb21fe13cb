//! What waits to be received on a socket, in order, and whether anything will come after it.

use super::{Error, Incoming, Notification, Result, errors};
use crate::machine::UserChannel;
use crate::types::PeId;
use std::collections::VecDeque;

/// One thing to be received.
#[derive(Debug)]
pub(super) enum Item {
    /// User data.
    Data {
        bytes: Vec<u8>,
        taken: usize,
        channel: UserChannel,
        complete: bool,
        session: u32,
        from: Option<PeId>,
    },
    /// A cookie that came back.
    CookieEcho { bytes: Vec<u8>, session: u32 },
    /// A message that was not delivered.
    Undelivered { bytes: Vec<u8>, channel: UserChannel, session: u32, to: Option<PeId> },
    /// A notification.
    Notification(Notification),
    /// So many messages, of so many bytes in all, were not delivered, where that cannot be told one by one.
    Lost { messages: usize, bytes: usize },
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    end: Option<Result<()>>,
}

impl Inbox {
    pub(super) fn push(&mut self, item: Item) {
        self.items.push_back(item);
    }

    pub(super) fn notify(&mut self, notification: Notification) {
        self.push(Item::Notification(notification));
    }

    /// A message was not delivered, and there is no way to give it back.
    pub(super) fn lose(&mut self, len: usize) {
        let present = self.items.iter_mut().find_map(|item| match item {
            Item::Lost { messages, bytes } => Some((messages, bytes)),
            Item::Data { .. }
            | Item::CookieEcho { .. }
            | Item::Undelivered { .. }
            | Item::Notification(_) => None,
        });
        match present {
            Some((messages, bytes)) => {
                *messages += 1;
                *bytes += len;
            }
            None => self.push(Item::Lost { messages: 1, bytes: len }),
        }
    }

    /// What is to be told to the next call that sends: messages before its own were not delivered.
    pub(super) fn take_loss(&mut self) -> Result<()> {
        let Some(at) = self.items.iter().position(|item| matches!(item, Item::Lost { .. })) else {
            return Ok(());
        };
        match self.items.remove(at) {
            Some(Item::Lost { messages, bytes }) => Err(errors::not_delivered(messages, bytes)),
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing comes any more: because of an orderly end, or of this failure.
    pub(super) fn end(&mut self, how: std::result::Result<(), Error>) {
        self.end.get_or_insert(how);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    /// The next thing, its bytes copied to `buffer`. Data that do not fit are received in pieces. `full`: of data
    /// without message boundaries, as much as is here and fits.
    pub(super) fn take(&mut self, buffer: &mut [u8], full: bool) -> Result<Option<Incoming>> {
        match self.items.front_mut() {
            None => match &self.end {
                None => Ok(None),
                Some(Ok(())) => Ok(Some(Incoming::End)),
                Some(Err(e)) => Err(e.clone()),
            },
            Some(Item::Data { complete: false, .. }) if full => Ok(Some(self.fill(buffer))),
            Some(Item::Data { .. }) => Ok(Some(self.piece(buffer))),
            Some(Item::CookieEcho { bytes, session }) => {
                let (n, session) = (whole(bytes, buffer, "cookie echo")?, *session);
                self.items.pop_front();
                Ok(Some(Incoming::CookieEcho { bytes: n, session }))
            }
            Some(Item::Undelivered { bytes, channel, session, to }) => {
                let n = whole(bytes, buffer, "undelivered message")?;
                let UserChannel { ppid, stream, .. } = *channel;
                let incoming = Incoming::Undelivered { bytes: n, ppid, stream, session: *session, to: *to };
                self.items.pop_front();
                Ok(Some(incoming))
            }
            Some(Item::Lost { messages, bytes }) => {
                let lost = errors::not_delivered(*messages, *bytes);
                self.items.pop_front();
                Err(lost)
            }
            Some(Item::Notification(notification)) => {
                let notification = *notification;
                self.items.pop_front();
                Ok(Some(Incoming::Notification(notification)))
            }
        }
    }

    /// As much of the data in front as fits.
    fn piece(&mut self, buffer: &mut [u8]) -> Incoming {
        let Some(Item::Data { bytes, taken, channel, complete, session, from }) = self.items.front_mut()
        else {
            return Incoming::End;
        };
        let rest = bytes.get(*taken..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(what)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(what);
        }
        let last = n == rest.len();
        *taken += n;
        let incoming = Incoming::Data {
            bytes: n,
            ppid: channel.ppid,
            stream: channel.stream,
            session: *session,
            from: *from,
            end_of_record: *complete && last,
        };
        if last {
            self.items.pop_front();
        }
        incoming
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Incoming {
        let mut first = self.piece(buffer);
        let Incoming::Data { bytes: filled, session: ours, .. } = &mut first else { return first };
        while let (Some(Item::Data { session, complete: false, .. }), Some(room)) =
            (self.items.front(), buffer.get_mut(*filled..))
        {
            if session != ours || room.is_empty() {
                break;
            }
            if let Incoming::Data { bytes, .. } = self.piece(room) {
                *filled += bytes;
            }
        }
        first
    }
}

/// Copies something that is no use in pieces; it stays if there is no room.
fn whole(bytes: &[u8], buffer: &mut [u8], name: &str) -> Result<usize> {
    let n = bytes.len();
    let room = buffer.len();
    let to = buffer.get_mut(..n).ok_or_else(|| {
        errors::error(
            libc::EMSGSIZE,
            format!(
                "the {name} has {n} bytes and the buffer {room}; nothing is lost, call with a larger one"
            ),
        )
    })?;
    to.copy_from_slice(bytes);
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8], complete: bool) -> Item {
        let channel = UserChannel::default();
        Item::Data { bytes: bytes.to_vec(), taken: 0, channel, complete, session: 1, from: None }
    }

    fn took(inbox: &mut Inbox, room: usize, full: bool) -> (Vec<u8>, bool) {
        let mut buffer = vec![0; room];
        match inbox.take(&mut buffer, full).unwrap() {
            Some(Incoming::Data { bytes, end_of_record, .. }) => (buffer[..bytes].to_vec(), end_of_record),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_longer_than_the_buffer_comes_in_pieces() {
        let mut inbox = Inbox::default();
        inbox.push(data(b"abcde", true));
        assert_eq!(took(&mut inbox, 3, false), (b"abc".to_vec(), false));
        assert_eq!(took(&mut inbox, 3, false), (b"de".to_vec(), true));
        assert_eq!(inbox.take(&mut [0; 3], false), Ok(None));
    }

    #[test]
    fn pieces_without_boundaries_fill_the_buffer_if_asked_for() {
        let mut inbox = Inbox::default();
        inbox.push(data(b"ab", false));
        inbox.push(data(b"cd", false));
        assert_eq!(took(&mut inbox, 3, true), (b"abc".to_vec(), false));
        assert_eq!(took(&mut inbox, 3, true), (b"d".to_vec(), false));
    }

    #[test]
    fn a_cookie_echo_that_does_not_fit_stays() {
        let mut inbox = Inbox::default();
        inbox.push(Item::CookieEcho { bytes: b"abc".to_vec(), session: 1 });
        assert_eq!(inbox.take(&mut [0; 2], false).unwrap_err().errno, libc::EMSGSIZE);
        let got = inbox.take(&mut [0; 3], false).unwrap();
        assert_eq!(got, Some(Incoming::CookieEcho { bytes: 3, session: 1 }));
    }

    #[test]
    fn a_loss_is_told_once_to_whoever_calls_first_and_hides_no_data() {
        let mut inbox = Inbox::default();
        inbox.push(data(b"a", true));
        inbox.lose(3);
        inbox.lose(4);
        assert_eq!(took(&mut inbox, 9, false).0, b"a");
        let lost = inbox.take(&mut [], false).unwrap_err();
        assert_eq!(lost.errno, libc::ECOMM);
        assert!(lost.what.contains("2 messages") && lost.what.contains("7 bytes"), "{}", lost.what);
        assert_eq!(inbox.take(&mut [], false), Ok(None));
        inbox.lose(1);
        assert_eq!(inbox.take_loss().unwrap_err().errno, libc::ECOMM);
        assert_eq!(inbox.take_loss(), Ok(()));
        assert!(inbox.is_empty());
    }

    #[test]
    fn the_end_comes_after_everything_else_and_stays() {
        let mut inbox = Inbox::default();
        inbox.push(data(b"a", true));
        inbox.end(Ok(()));
        took(&mut inbox, 9, false);
        assert_eq!(inbox.take(&mut [], false), Ok(Some(Incoming::End)));
        assert_eq!(inbox.take(&mut [], false), Ok(Some(Incoming::End)));
    }
}
