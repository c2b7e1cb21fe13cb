//! Registration, deregistration, keep-alives (RFC 5352 3.1, 3.2, 3.4).

use super::*;

#[test]
fn registers_once_a_home_is_found_and_tells_success_once() {
    let mut rig = Rig::knowing(&[1]);
    let registration = rig.register("pool", 5);
    rig.drain();
    rig.up(link(0));
    let sent = rig.sent();
    let [(_, AsapMessage::Registration(Registration { handle, element }))] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((handle, element.id, &element.user_transport), (&pool("pool"), PeId(5), &tcp(7)));
    assert_eq!(element.capabilities, Some(Capabilities::TCP_CONTROL_CHANNEL));
    rig.drain();
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
    rig.message(link(0), &granted("pool", 5));
    assert!(rig.events().is_empty());
}
