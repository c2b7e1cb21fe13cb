//! Sessions between the two hosts, through the sockets layer, with a registrar on this one.

use super::*;
use asap::hosting::{Announce, Running, Settings};
use asap::policy::Policy;
use asap::socket::{self, Context, Incoming, Kind, Notification, Options, Outgoing, Wait};
use std::os::fd::RawFd;

const LONG: Wait = Wait::For(PATIENCE);

fn element(context: &Context, handle: &PoolHandle) -> RawFd {
    let sd = context.socket(0, Kind::SeqPacket, libc::IPPROTO_SCTP).unwrap();
    let life = Duration::from_secs(30);
    socket::register(sd, handle, &Policy::ROUND_ROBIN, life, None, true, LONG).unwrap();
    sd
}

/// Numbers of the messages that come, until nothing comes for a while.
fn numbers(sd: RawFd, wait: Duration) -> Vec<u32> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; 100_000]);
    while let Ok(came) = socket::receive(sd, &mut buffer, false, Wait::For(wait)) {
        if let Incoming::Data { bytes, .. } = came {
            found.push(number(&buffer[..bytes]));
        }
    }
    found
}

/// What was not sent when the network was cut is sent to the next element; and the parameters of a session say how long its
/// paths are tried.
#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn unsent_data_goes_to_the_next_element_once_and_in_order_when_the_network_is_cut() {
    let _alone = alone();
    let _mended = Mended;
    let at = |address: &str| vec![SocketAddr::new(ip(address), 0)];
    let settings =
        Settings { asap: at(HERE[0]), enrp: at(HERE[0]), announce: Announce::Off, ..Settings::default() };
    let registrar = Running::start(settings).unwrap();
    let registrars = registrar.listeners().iter().find(|listener| listener.serves_endpoints()).unwrap();
    let options =
        Options { registrars: vec![vec![registrars.address]], no_announcements: true, ..Options::default() };
    let mut took = Vec::new();
    for more_retransmissions in [0, 4] {
        let handle = PoolHandle::new(format!("cut {more_retransmissions}").as_bytes()).unwrap();
        let first = elsewhere(|| Context::start(&options).unwrap());
        let far = elsewhere(|| element(&first, &handle));
        let context = Context::start(&options).unwrap();
        let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
        let mut parameters = socket::socket_options(user).unwrap();
        parameters.session.automatic_failover = true;
        parameters.path.association_max_retrans += more_retransmissions;
        socket::set_socket_options(user, &parameters).unwrap();
        socket::connect(user, &handle, Duration::ZERO, LONG).unwrap();
        let second = Context::start(&options).unwrap();
        let near = element(&second, &handle);
        let send = |n: u32, wait| socket::send(user, &numbered(n, 20_000), &Outgoing::default(), wait);
        for n in 0..10 {
            send(n, LONG).unwrap();
        }
        let before = elsewhere(|| numbers(far, Duration::from_millis(500)));
        assert!(before.iter().copied().eq(0..10), "{before:?}");
        lose(0, 100);
        lose(1, 100);
        let begun = Instant::now();
        let after = std::thread::scope(|scope| {
            let reader = scope.spawn(|| numbers(near, Duration::from_secs(3)));
            // As much as is taken before anybody knows, and some after.
            for n in 10..100 {
                send(n, LONG).unwrap();
            }
            // A session goes on in the calls of its program.
            let mut buffer = [0; 100];
            while !reader.is_finished() {
                let complete = |note| matches!(note, Notification::FailoverComplete { .. });
                match socket::receive(user, &mut buffer, false, Wait::For(Duration::from_millis(100))) {
                    Ok(Incoming::Notification(note)) if complete(note) => took.push(begun.elapsed()),
                    _ => {}
                }
            }
            reader.join().unwrap()
        });
        println!("{:?} to {:?} came after the cut", after.first(), after.last());
        // At most what fits into the first window was on its way.
        assert!(after[0] < 13, "{after:?}");
        assert!(after.iter().copied().eq(after[0]..100), "{after:?}");
        lose(0, 0);
        lose(1, 0);
        [context, second, first].iter().for_each(Context::close);
    }
    println!("elsewhere after {took:?}: with 4 retransmissions more in the second case");
    assert!(took[0] < Duration::from_secs(5), "{took:?}");
    assert!(took[1] > took[0] + Duration::from_millis(300), "{took:?}");
}
