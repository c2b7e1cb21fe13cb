//! Resolution, cache, subscriptions, reports (RFC 5352 3.3, 3.5, 3.7.2, 6.3, 6.4, 6.9).

use super::*;

#[test]
fn asks_the_home_and_gives_the_answer_in_its_order() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    let sent = rig.sent();
    let [
        (
            _,
            AsapMessage::HandleResolution { subscribe: false, handle, items: Some(8), capabilities: Some(_) },
        ),
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(handle, &pool("pool"));
    rig.message(link(0), &answer("pool", &[3, 1, 2]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![3, 1, 2]))]);
}
