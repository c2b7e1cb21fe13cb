//! Linux's SCTP sockets (RFC 6458, linux/sctp.h): options, addresses, sending and receiving with their ancillary data,
//! notifications. One-to-one sockets, and one-to-many ones of which each association is peeled off into a socket of its
//! own; knows nothing of links. What the libc crate lacks is written out here.

use crate::config::PathLimits;
use crate::runtime::link::plain_address;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};

const BINDX_ADD: i32 = 100;
const GET_PEER_ADDRS: i32 = 108;
const GET_LOCAL_ADDRS: i32 = 109;
const CONNECTX3: i32 = 111;
const PEELOFF_FLAGS: i32 = 122;
const EVENT: i32 = 127;

const ASSOC_CHANGE: u16 = 0x8001;
const SHUTDOWN_EVENT: u16 = 0x8005;
const PARTIAL_DELIVERY_EVENT: u16 = 0x8006;
const ADAPTATION_EVENT: u16 = 0x8007;
const SENDER_DRY_EVENT: u16 = 0x8009;
const SEND_FAILED_EVENT: u16 = 0x800d;

const COMM_UP: u16 = 0;
const COMM_LOST: u16 = 1;
const RESTART: u16 = 2;
const SHUTDOWN_COMP: u16 = 3;
const CANT_STR_ASSOC: u16 = 4;

/// Bits of a DATA chunk's flags, as a failed fragment tells them.
const CHUNK_LAST: u16 = 1;
const CHUNK_FIRST: u16 = 2;
const CHUNK_UNORDERED: u16 = 4;

/// struct sctp_paddrparams, packed: association, address at 4, heartbeat at 132, retransmissions at 136, flags at 146.
const PATH_PARAMETERS: usize = 156;
const PATH_FLAGS: usize = 146;
const HEARTBEATS: u32 = 1;
const HEARTBEAT_NOW: u32 = 4;

/// Which association of a one-to-one or peeled-off socket is meant: it has one, but 0 would mean the socket's own defaults.
const THE_ASSOCIATION: i32 = 1;
/// Streams asked for and granted. Each costs memory for as long as the association lives, and it is the peer who asks.
const STREAMS: u16 = 64;
/// What is asked for as send and receive buffer; the system has its own ceiling (net.core.wmem_max). A message
/// longer than the send buffer can only go in pieces.
const BUFFER: usize = 4 << 20;
/// Bytes of all the addresses of one end.
const ADDRESSES: usize = 4 << 10;
/// Longer than a notification of an association that has come up.
const NOTICE: usize = 512;
/// Room for SCTP_SNDINFO and SCTP_PRINFO, or one SCTP_RCVINFO.
const CONTROL: usize = 64;

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Envelope {
    pub stream: u16,
    /// Host order.
    pub ppid: u32,
    pub unordered: bool,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// So many bytes of a message, and whether it ends with them.
    Data { len: usize, envelope: Envelope, number: u16, complete: bool },
    /// So many bytes of a notification, and whether it ends with them.
    Notice { len: usize, complete: bool },
    /// Nothing will come any more.
    End,
}

/// A notification.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Notice<'a> {
    /// This association is up.
    Up(i32),
    /// The association failed: the socket's error says why.
    Lost,
    /// Another incarnation of the peer has taken its place.
    Restarted,
    /// Closed in order, by both.
    Complete,
    /// The peer has no more to send and takes no more.
    Shutdown,
    /// What the peer says of itself above SCTP.
    Adaptation(u32),
    /// All that was sent has been acknowledged.
    Dry,
    /// The rest of the message in progress will not come.
    PartialAborted,
    /// A fragment of a message that could not be sent, with the context it was sent with.
    Failed { envelope: Envelope, context: u32, first: bool, last: bool, sent: bool, bytes: &'a [u8] },
    /// One that nobody here needs.
    Other,
}

/// A one-to-one socket. `Unsupported`, with a sentence, where the kernel has no SCTP.
pub(crate) fn open(domain: Domain) -> io::Result<Socket> {
    open_type(domain, Type::STREAM)
}

/// A one-to-many socket, to be tuned and bound; `Unsupported` as above.
pub(crate) fn open_many(domain: Domain) -> io::Result<Socket> {
    let socket = open_type(domain, Type::SEQPACKET)?;
    // A long message of one association does not hold up what comes of the others.
    set(&socket, libc::SCTP_FRAGMENT_INTERLEAVE, &1_i32)?;
    Ok(socket)
}

fn open_type(domain: Domain, kind: Type) -> io::Result<Socket> {
    Socket::new(domain, kind.nonblocking().cloexec(), Some(Protocol::SCTP)).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPROTOTYPE) => io::Error::new(
                io::ErrorKind::Unsupported,
                "this system's kernel has no SCTP (on Linux `modprobe sctp` may load it)",
            ),
            _ => error,
        }
    })
}

/// What an association takes over from the socket it begins on, to be set before connecting or listening: streams,
/// buffers, how long to try.
pub(crate) fn prepare(socket: &Socket, path: &PathLimits) -> io::Result<()> {
    let streams = libc::sctp_initmsg {
        sinit_num_ostreams: STREAMS,
        sinit_max_instreams: STREAMS,
        sinit_max_attempts: 0,
        sinit_max_init_timeo: 0,
    };
    set(socket, libc::SCTP_INITMSG, &streams)?;
    set(socket, libc::SCTP_NODELAY, &1_i32)?;
    let _ = socket.set_send_buffer_size(BUFFER);
    let _ = socket.set_recv_buffer_size(BUFFER);
    let millis = |time: std::time::Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    // struct sctp_rtoinfo: association, initial, max, min.
    let rto = [0, millis(path.rto_initial), millis(path.rto_max), millis(path.rto_min)];
    set(socket, libc::SCTP_RTOINFO, &rto)?;
    let mut parameters = [0_u8; PATH_PARAMETERS];
    parameters[132..136].copy_from_slice(&millis(path.heartbeat).to_ne_bytes());
    parameters[136..138].copy_from_slice(&path.path_max_retrans.to_ne_bytes());
    parameters[PATH_FLAGS..PATH_FLAGS + 4].copy_from_slice(&HEARTBEATS.to_ne_bytes());
    set(socket, libc::SCTP_PEER_ADDR_PARAMS, &parameters)?;
    // struct sctp_assocparams: association, retransmissions (16 bits), and what is left as it is.
    let mut association = [0_u8; 20];
    association[4..6].copy_from_slice(&path.association_max_retrans.to_ne_bytes());
    set(socket, libc::SCTP_ASSOCINFO, &association)?;
    // struct sctp_sack_info: association, delay, every how many packets.
    set(socket, libc::SCTP_DELAYED_SACK, &[0, millis(path.sack_delay), 2])
}

/// What a link needs, set before connecting, listening on a one-to-many socket, or after accepting: notifications and the information about each message. A
/// socket that is closed without more ado breaks the association off, also when its process is killed: so the peer can
/// tell a death from an orderly end.
pub(crate) fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    set(socket, libc::SCTP_NODELAY, &1_i32)?;
    set(socket, libc::SCTP_RECVRCVINFO, &1_i32)?;
    for kind in [ASSOC_CHANGE, SHUTDOWN_EVENT, PARTIAL_DELIVERY_EVENT, SEND_FAILED_EVENT] {
        subscribe(socket, kind, true)?;
    }
    Ok(())
}

fn subscribe(socket: &Socket, kind: u16, on: bool) -> io::Result<()> {
    #[repr(C)]
    struct Event {
        association: i32,
        kind: u16,
        on: u8,
    }
    set(socket, EVENT, &Event { association: 0, kind, on: on.into() })
}

/// Before connecting or listening: what to say of oneself above SCTP, and to be told what the peer says.
pub(crate) fn adapt(socket: &Socket, indication: u32) -> io::Result<()> {
    set(socket, libc::SCTP_ADAPTATION_LAYER, &indication)?;
    subscribe(socket, ADAPTATION_EVENT, true)
}

/// Whether to be told when all that was sent has been acknowledged; at once if it is.
pub(super) fn tell_when_dry(socket: &Socket, on: bool) {
    if let Err(error) = subscribe(socket, SENDER_DRY_EVENT, on) {
        log::debug!("cannot ask for what is acknowledged: {error}");
    }
}

/// Asks for a heartbeat to one of the peer's addresses now. That it did not go out shows in other ways.
pub(super) fn probe(socket: &Socket, address: SocketAddr) {
    let mut parameters = [0_u8; PATH_PARAMETERS];
    parameters[..4].copy_from_slice(&THE_ASSOCIATION.to_ne_bytes());
    let address = packed(&[address]);
    parameters[4..4 + address.len()].copy_from_slice(&address);
    parameters[PATH_FLAGS..PATH_FLAGS + 4].copy_from_slice(&HEARTBEAT_NOW.to_ne_bytes());
    if let Err(error) = set(socket, libc::SCTP_PEER_ADDR_PARAMS, &parameters) {
        log::debug!("cannot ask for a heartbeat: {error}");
    }
}

/// Sets an option. `T` is the C structure or one of the same layout.
fn set<T>(socket: &Socket, option: i32, value: &T) -> io::Result<()> {
    set_bytes(socket, option, std::ptr::from_ref(value).cast(), size_of::<T>())
}

fn set_bytes(socket: &Socket, option: i32, value: *const u8, len: usize) -> io::Result<()> {
    let len = libc::socklen_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: every caller passes a pointer to at least `len` bytes it has borrowed; the kernel only reads them.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_SCTP, option, value.cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Addresses as bindx and connectx want them: one after the other, each as long as its family's structure.
fn packed(addresses: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        let address = SockAddr::from(*address);
        // SAFETY: socket2 has written `len` bytes of the address there.
        bytes.extend_from_slice(unsafe {
            std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.len() as usize)
        });
    }
    bytes
}

/// Adds addresses to those a bound socket has; all with the port it is bound to.
pub(crate) fn bind_also(socket: &Socket, addresses: &[SocketAddr]) -> io::Result<()> {
    let bytes = packed(addresses);
    set_bytes(socket, BINDX_ADD, bytes.as_ptr(), bytes.len())
}

/// Begins to connect to one peer with all these addresses; the number of the association. On a one-to-many socket: EISCONN
/// or EALREADY if it has an association with the peer, EADDRNOTAVAIL if it had one that was peeled off.
pub(super) fn connect(socket: &Socket, addresses: &[SocketAddr]) -> io::Result<i32> {
    #[repr(C)]
    struct Connectx {
        association: i32,
        bytes: i32,
        addresses: *const u8,
    }
    let bytes = packed(addresses);
    let count = i32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut request = Connectx { association: 0, bytes: count, addresses: bytes.as_ptr() };
    let mut len = size_of::<Connectx>() as libc::socklen_t;
    // SAFETY: `request` has the layout of struct sctp_getaddrs_old and `len` its size; `bytes` outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_SCTP,
            CONNECTX3,
            std::ptr::from_mut(&mut request).cast(),
            &raw mut len,
        )
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(request.association),
        error if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(request.association),
        error => Err(error),
    }
}

/// Gives one association of a one-to-many socket a socket of its own, with all that has come for it. It may be up, or
/// still being set up. EINVAL if it is over already, EMFILE or ENFILE if there is no descriptor: it is as it was.
pub(crate) fn peel_off(socket: &Socket, association: i32) -> io::Result<Socket> {
    // Linux makes the socket first and, if there is no descriptor for it, ends the association: better to know before.
    drop(socket.try_clone()?);
    // struct sctp_peeloff_flags_arg_t: association, the new descriptor, its flags.
    let mut request = [association, -1, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK];
    let mut len = size_of_val(&request) as libc::socklen_t;
    // SAFETY: `request` has the structure's layout and `len` its size. On success the descriptor it holds was just
    // opened and belongs to nobody else.
    unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_SCTP,
            PEELOFF_FLAGS,
            request.as_mut_ptr().cast(),
            &raw mut len,
        );
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Socket::from_raw_fd(request[1])) }
    }
}

/// The association's own addresses.
pub(super) fn local_addresses(socket: &Socket) -> io::Result<Vec<SocketAddr>> {
    addresses(socket, GET_LOCAL_ADDRS)
}

/// The peer's.
pub(super) fn peer_addresses(socket: &Socket) -> io::Result<Vec<SocketAddr>> {
    addresses(socket, GET_PEER_ADDRS)
}

fn addresses(socket: &Socket, option: i32) -> io::Result<Vec<SocketAddr>> {
    // struct sctp_getaddrs: association, number, addresses. Words, for the alignment.
    let mut buffer = [0_u32; ADDRESSES / 4];
    buffer[0] = THE_ASSOCIATION as u32;
    let mut len = ADDRESSES as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `buffer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_SCTP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> = buffer[2..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    for _ in 0..buffer[1] {
        let Some(family) = rest.first_chunk::<2>().map(|family| i32::from(u16::from_ne_bytes(*family)))
        else {
            break;
        };
        let size = match family {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => break,
        };
        let Some((address, behind)) = rest.split_at_checked(size) else { break };
        rest = behind;
        // SAFETY: `address` is the kernel's structure for its family, and shorter than the storage it is copied to.
        let address = unsafe {
            SockAddr::try_init(|storage, len| {
                std::ptr::copy_nonoverlapping(address.as_ptr(), storage.cast::<u8>(), size);
                *len = size as libc::socklen_t;
                Ok(())
            })
        };
        found.extend(plain_address(address.map(|((), address)| address)));
    }
    if found.is_empty() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(found) }
}

/// What else is said about a message to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Manner {
    /// The peer is to acknowledge it without delay (RFC 7053).
    pub prompt: bool,
    /// Milliseconds after which it is given up (RFC 3758); 0: never.
    pub lifetime: u32,
    /// Comes back with what could not be sent.
    pub context: u32,
}

/// Hands over a whole message: `head` and what follows it.
pub(super) fn send(
    socket: &Socket,
    envelope: Envelope,
    manner: Manner,
    head: &[u8],
    bytes: &[u8],
) -> io::Result<()> {
    let flags = if envelope.unordered { libc::SCTP_UNORDERED } else { 0 }
        | if manner.prompt { libc::SCTP_SACK_IMMEDIATELY } else { 0 };
    send_with(socket, envelope, flags, manner, [head, bytes])
}

/// Ends the association in order, once all that was handed over has been acknowledged.
pub(super) fn shut_down(socket: &Socket) -> io::Result<()> {
    if socket.r#type()? == Type::STREAM {
        return socket.shutdown(Shutdown::Write);
    }
    // To a socket that was peeled off shutdown(2) does nothing.
    let envelope = Envelope { stream: 0, ppid: 0, unordered: false };
    send_with(socket, envelope, libc::SCTP_EOF, Manner::default(), [&[], &[]])
}

fn send_with(
    socket: &Socket,
    envelope: Envelope,
    flags: i32,
    manner: Manner,
    bytes: [&[u8]; 2],
) -> io::Result<()> {
    let info = libc::sctp_sndinfo {
        snd_sid: envelope.stream,
        snd_flags: flags as u16,
        snd_ppid: envelope.ppid.to_be(),
        snd_context: manner.context,
        snd_assoc_id: 0,
    };
    let partial = (manner.lifetime > 0)
        .then_some(libc::sctp_prinfo { pr_policy: libc::SCTP_PR_SCTP_TTL as u16, pr_value: manner.lifetime });
    let (info_size, partial_size) =
        (size_of::<libc::sctp_sndinfo>() as u32, size_of::<libc::sctp_prinfo>() as u32);
    let mut control = [0_u64; CONTROL / 8];
    let mut parts =
        bytes.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: all zero is a valid msghdr. `control` has room for both headers with their structures, which CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay within, and is aligned for them. The kernel only reads what the header points to.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        message.msg_control = control.as_mut_ptr().cast();
        let further = if partial.is_some() { libc::CMSG_SPACE(partial_size) } else { 0 };
        message.msg_controllen = (libc::CMSG_SPACE(info_size) + further) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::IPPROTO_SCTP;
        (*header).cmsg_type = libc::SCTP_SNDINFO;
        (*header).cmsg_len = libc::CMSG_LEN(info_size) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(header).cast(), info);
        let header = libc::CMSG_NXTHDR(&raw const message, header);
        if let Some(partial) = partial
            && !header.is_null()
        {
            (*header).cmsg_level = libc::IPPROTO_SCTP;
            (*header).cmsg_type = libc::SCTP_PRINFO;
            (*header).cmsg_len = libc::CMSG_LEN(partial_size) as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(header).cast(), partial);
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next association of a one-to-many socket that has come up, if it is among the next so many pieces that wait there.
/// Messages and other notifications are dropped: those of an association that is peeled off go with it.
pub(crate) fn next_up(socket: &Socket, pieces: usize) -> Option<i32> {
    let mut buffer = [const { MaybeUninit::uninit() }; NOTICE];
    for _ in 0..pieces {
        let len = match receive(socket, &mut buffer) {
            Ok(Received::Notice { len, .. }) => len,
            Ok(Received::Data { .. }) => continue,
            // Errors of a one-to-many socket are those of single associations.
            Ok(Received::End) | Err(_) => return None,
        };
        // SAFETY: `receive` has filled that many bytes of the buffer.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) };
        if let Notice::Up(association) = notice(bytes) {
            return Some(association);
        }
    }
    None
}

/// Whether what is to be read next is a notification.
pub(super) fn has_notice(socket: &Socket) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 1];
    matches!(receive_with(socket, &mut buffer, libc::MSG_PEEK), Ok(Received::Notice { .. }))
}

/// Reads the next piece of a message or notification.
pub(super) fn receive(socket: &Socket, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
    receive_with(socket, buffer, 0)
}

fn receive_with(socket: &Socket, buffer: &mut [MaybeUninit<u8>], flags: i32) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL / 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut envelope = Envelope { stream: 0, ppid: 0, unordered: false };
    let mut number = 0;
    // SAFETY: all zero is a valid msghdr; it points to buffers that outlive the call, with their lengths. The control
    // headers are walked within the length the kernel has written; RCVINFO is read only if it is there whole.
    let (len, flags) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
        let len = libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT);
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while len >= 0 && !header.is_null() {
            let whole = (*header).cmsg_len as usize
                >= libc::CMSG_LEN(size_of::<libc::sctp_rcvinfo>() as u32) as usize;
            if (*header).cmsg_level == libc::IPPROTO_SCTP
                && (*header).cmsg_type == libc::SCTP_RCVINFO
                && whole
            {
                let info: libc::sctp_rcvinfo = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                envelope.stream = info.rcv_sid;
                envelope.ppid = u32::from_be(info.rcv_ppid);
                envelope.unordered = i32::from(info.rcv_flags) & libc::SCTP_UNORDERED != 0;
                number = info.rcv_ssn;
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        (len, message.msg_flags)
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?.min(buffer.len());
    let complete = flags & libc::MSG_EOR != 0;
    Ok(if flags & libc::MSG_NOTIFICATION != 0 {
        Received::Notice { len, complete }
    } else if len == 0 {
        // SCTP has no empty messages.
        Received::End
    } else {
        Received::Data { len, envelope, number, complete }
    })
}

/// Reads a whole notification.
pub(super) fn notice(bytes: &[u8]) -> Notice<'_> {
    let half = |at: usize| {
        bytes.get(at..at + 2).and_then(|b| b.first_chunk()).map_or(u16::MAX, |b| u16::from_ne_bytes(*b))
    };
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    let host_word =
        |at: usize| bytes.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| i32::from_ne_bytes(*b));
    match half(0) {
        // struct sctp_assoc_change: state at 8, association at 16
        ASSOC_CHANGE => match half(8) {
            COMM_UP => Notice::Up(host_word(16)),
            COMM_LOST | CANT_STR_ASSOC => Notice::Lost,
            RESTART => Notice::Restarted,
            SHUTDOWN_COMP => Notice::Complete,
            _ => Notice::Other,
        },
        SHUTDOWN_EVENT => Notice::Shutdown,
        PARTIAL_DELIVERY_EVENT => Notice::PartialAborted,
        ADAPTATION_EVENT => Notice::Adaptation(host_word(8).cast_unsigned()),
        SENDER_DRY_EVENT => Notice::Dry,
        // struct sctp_send_failed_event: flags at 2, stream at 12, the chunk's flags at 14, identifier at 16, context at 20
        SEND_FAILED_EVENT => match bytes.get(32..) {
            Some(data) => {
                let flags = half(14);
                let unordered = flags & CHUNK_UNORDERED != 0;
                Notice::Failed {
                    envelope: Envelope { stream: half(12), ppid: word(16), unordered },
                    context: host_word(20).cast_unsigned(),
                    first: flags & CHUNK_FIRST != 0,
                    last: flags & CHUNK_LAST != 0,
                    sent: half(2) != 0,
                    bytes: data,
                }
            }
            None => Notice::Other,
        },
        _ => Notice::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(flags: u16, chunk: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = [&SEND_FAILED_EVENT.to_ne_bytes()[..], &flags.to_ne_bytes(), &[0; 8]].concat();
        bytes.extend([5_u16.to_ne_bytes(), chunk.to_ne_bytes()].concat());
        bytes.extend(11_u32.to_be_bytes());
        bytes.extend(0x0102_0304_u32.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_what_could_not_be_sent() {
        let envelope = Envelope { stream: 5, ppid: 11, unordered: false };
        let context = 0x0102_0304;
        let all = Notice::Failed { envelope, context, first: true, last: true, sent: false, bytes: b"abc" };
        assert_eq!(notice(&failed(0, 3, b"abc")), all);
        let envelope = Envelope { unordered: true, ..envelope };
        let middle = Notice::Failed { envelope, context, first: false, last: false, sent: true, bytes: b"" };
        assert_eq!(notice(&failed(1, 4, b"")), middle);
    }

    #[test]
    fn a_notification_cut_short_or_unknown_is_none_we_know() {
        let whole = failed(0, 3, b"");
        for len in 0..whole.len() {
            assert_eq!(notice(&whole[..len]), Notice::Other, "{len} bytes");
        }
        for kind in [0_u16, 0x8002, 0x8fff, ASSOC_CHANGE] {
            assert_eq!(notice(&kind.to_ne_bytes()), Notice::Other);
        }
    }

    #[test]
    fn addresses_are_packed_by_family() {
        let addresses = ["10.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()];
        let bytes = packed(&addresses);
        assert_eq!(bytes.len(), 16 + 28);
        assert_eq!(bytes[2..8], [0, 7, 10, 0, 0, 1]);
        assert_eq!(bytes[16 + 2..16 + 4], [0, 7]);
    }
}
