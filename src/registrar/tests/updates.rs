//! Changes told among registrars (RFC 5353 3.3), claims that meet, and audits (3.6).

use super::cluster::*;
use super::*;
use crate::wire::{EnrpHeader, Introduction, UpdateAction, Versioned};

#[test]
fn what_registers_changes_and_deregisters_at_one_is_so_at_all() {
    let mut cluster = Cluster::running(3);
    let link = cluster.register(0, "pool", &weighted(element(1, "10.1.0.1"), 1));
    assert_eq!(cluster.expect_same(), [("pool".to_string(), 1, id(0).value(), 1)]);
    cluster.say(0, link, &registration("pool", &weighted(element(1, "10.1.0.1"), 5)));
    assert_eq!(cluster.expect_same(), [("pool".to_string(), 1, id(0).value(), 2)]);
    cluster.say(0, link, &AsapMessage::Deregistration { handle: handle("pool"), element: PeId(1) });
    assert_eq!(cluster.expect_same(), []);
}

#[test]
fn an_unchanged_re_registration_is_told_to_peers_that_are_not_ours_only() {
    let mut cluster = Cluster::running(2);
    let link = cluster.register(0, "pool", &element(1, "10.1.0.1"));
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    cluster.delivered.clear();
    foreign.take(&mut cluster);
    cluster.say(0, link, &registration("pool", &element(1, "10.1.0.1")));
    assert!(cluster.delivered.is_empty());
    assert!(matches!(
        foreign.take(&mut cluster).as_slice(),
        [EnrpMessage::HandleUpdate {
            action: UpdateAction::AddPe,
            element: Versioned { version: None, .. },
            ..
        }]
    ));
}

#[test]
fn an_element_that_registers_elsewhere_has_one_home_and_a_late_removal_from_the_old_one_is_ignored() {
    let mut cluster = Cluster::running(3);
    let old = cluster.register(0, "pool", &ours(element(1, "10.1.0.1")));
    // 0 does not hear of it.
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    cluster.register(1, "pool", &ours(element(1, "10.1.0.1")));
    cluster.say(0, old, &AsapMessage::Deregistration { handle: handle("pool"), element: PeId(1) });
    assert!(cluster.held(0).is_empty());
    // The removal has the version of the registration, but that of the higher home holds: and 2 hears of it late.
    let removal = EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header: EnrpHeader { sender: Some(id(0)), receiver: None },
        action: UpdateAction::DelPe,
        handle: handle("pool"),
        element: Versioned {
            element: PoolElement { home: Some(id(0)), ..ours(element(1, "10.1.0.1")) },
            version: Some(2),
        },
    };
    cluster.tell(2, 0, &removal);
    assert_eq!(cluster.held(2), [("pool".to_string(), 1, id(1).value(), 2)]);
    assert_eq!(cluster.registrar(2).counters().updates_stale, 1);
}

#[test]
fn a_removal_without_version_counts_from_the_home_only() {
    let mut cluster = Cluster::running(1);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let mine = PoolElement { home: Some(foreign.id), ..element(2, "10.1.0.2") };
    foreign.update(&mut cluster, UpdateAction::AddPe, &mine, None);
    assert_eq!(cluster.held(0).len(), 2);
    foreign.update(&mut cluster, UpdateAction::DelPe, &element(1, "10.1.0.1"), None);
    assert_eq!(cluster.held(0).len(), 2);
    foreign.update(&mut cluster, UpdateAction::DelPe, &mine, None);
    assert_eq!(cluster.held(0).len(), 1);
    // Nor does one of what is not known do anything.
    foreign.update(&mut cluster, UpdateAction::DelPe, &mine, None);
    assert_eq!(cluster.held(0).len(), 1);
}

#[test]
fn a_removal_that_crossed_the_elements_move_is_ignored_whatever_its_version() {
    let mut cluster = Cluster::running(1);
    let mut old = Foreign::connect(&mut cluster, 0, 0xf000);
    let mut new = Foreign::connect(&mut cluster, 0, 0xf001);
    let of = |by: &Foreign| PoolElement { home: Some(by.id), ..ours(element(1, "10.1.0.1")) };
    let (of_old, of_new) = (of(&old), of(&new));
    old.update(&mut cluster, UpdateAction::AddPe, &of_old, Some(5));
    new.update(&mut cluster, UpdateAction::AddPe, &of_new, Some(6));
    old.update(&mut cluster, UpdateAction::DelPe, &of_old, Some(9));
    assert_eq!(cluster.held(0), [("pool".to_string(), 1, 0xf001, 6)]);
    new.update(&mut cluster, UpdateAction::DelPe, &of_new, Some(9));
    assert!(cluster.held(0).is_empty());
}

#[test]
fn of_two_claims_the_one_of_higher_version_holds_and_of_equal_ones_that_of_the_higher_home() {
    let mut cluster = Cluster::running(1);
    let mut low = Foreign::connect(&mut cluster, 0, 0xf000);
    let mut high = Foreign::connect(&mut cluster, 0, 0xf001);
    let claim = |by: &Foreign| PoolElement { home: Some(by.id), ..ours(element(1, "10.1.0.1")) };
    let (of_low, of_high) = (claim(&low), claim(&high));
    let home = |cluster: &Cluster| cluster.held(0)[0].2;
    low.update(&mut cluster, UpdateAction::AddPe, &of_low, Some(5));
    high.update(&mut cluster, UpdateAction::AddPe, &of_high, Some(4));
    assert_eq!(home(&cluster), 0xf000);
    high.update(&mut cluster, UpdateAction::AddPe, &of_high, Some(5));
    assert_eq!(home(&cluster), 0xf001);
    low.update(&mut cluster, UpdateAction::AddPe, &of_low, Some(5));
    assert_eq!(home(&cluster), 0xf001);
    // What registers here is newer than all that.
    cluster.register(0, "pool", &ours(element(1, "10.1.0.1")));
    assert_eq!(cluster.held(0), [("pool".to_string(), 1, id(0).value(), 6)]);
}

#[test]
fn an_update_in_the_name_of_another_home_is_refused() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let other = PoolElement { home: Some(server_id(0xf001)), ..element(1, "10.1.0.1") };
    foreign.update(&mut cluster, UpdateAction::AddPe, &other, None);
    assert!(cluster.held(0).is_empty());
    assert_eq!(cluster.registrar(0).counters().rejected_messages, 1);
}

#[test]
fn capabilities_and_versions_go_to_ours_only() {
    let mut cluster = Cluster::running(2);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    foreign.take(&mut cluster);
    cluster.delivered.clear();
    cluster.register(0, "pool", &ours(element(1, "10.1.0.1")));
    let told = |message: &EnrpMessage| match message {
        EnrpMessage::HandleUpdate { element, .. } => (element.version, element.element.capabilities),
        other => panic!("{other:?}"),
    };
    assert_eq!(foreign.take(&mut cluster).iter().map(told).collect::<Vec<_>>(), [(None, None)]);
    let to_ours: Vec<_> = cluster.delivered.iter().map(|(_, _, message)| told(message)).collect();
    assert_eq!(to_ours, [(Some(1), Some(Capabilities::TCP_CONTROL_CHANNEL))]);
}

#[test]
fn subscribers_are_told_of_changes_at_another_registrar() {
    let mut cluster = Cluster::running(2);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    let user = cluster.client(1, "10.2.0.1");
    cluster.say(1, user, &resolution("pool", None, true));
    cluster.asap.clear();
    cluster.register(0, "pool", &element(2, "10.1.0.2"));
    cluster.pass(ms(20));
    let pushed = cluster.asap.iter().find_map(|(node, link, message)| match message {
        AsapMessage::HandleResolutionResponse { elements, .. } if (*node, *link) == (1, user) => {
            Some(elements.len())
        }
        _ => None,
    });
    assert_eq!(pushed, Some(2));
}

#[test]
fn a_change_that_was_lost_is_found_within_three_heartbeats() {
    for lost in ["added", "removed", "changed"] {
        let mut cluster = Cluster::running(2);
        let kept = cluster.register(0, "pool", &weighted(element(1, "10.1.0.1"), 1));
        let gone = cluster.register(0, "pool", &weighted(element(2, "10.1.0.2"), 1));
        cluster.lose_messages(true);
        match lost {
            "added" => {
                cluster.register(0, "pool", &weighted(element(3, "10.1.0.3"), 1));
            }
            "removed" => {
                let message = AsapMessage::Deregistration { handle: handle("pool"), element: PeId(2) };
                cluster.say(0, gone, &message);
            }
            _ => cluster.say(0, kept, &registration("pool", &weighted(element(1, "10.1.0.1"), 9))),
        }
        cluster.lose_messages(false);
        assert_ne!(
            cluster.registrar(0).handlespace().digest(id(0)),
            cluster.registrar(1).handlespace().digest(id(0)),
        );
        cluster.pass_alive(ms(600));
        cluster.expect_same();
        assert_eq!(cluster.registrar(1).counters().audits, 1, "{lost}");
        cluster.pass_alive(ms(2_000));
        assert_eq!(cluster.registrar(1).counters().audits, 1, "agreed since");
    }
}

#[test]
fn a_peer_that_is_not_ours_is_audited_by_checksum_at_once() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let element = PoolElement { home: Some(foreign.id), ..element(1, "10.1.0.1") };
    foreign.update(&mut cluster, UpdateAction::AddPe, &element, None);
    foreign.take(&mut cluster);
    // The checksum over nothing.
    foreign.say(&mut cluster, &foreign.presence(Some(crate::types::PeChecksum(0xffff)), None));
    let asked = foreign.take(&mut cluster);
    assert!(
        matches!(asked.as_slice(), [EnrpMessage::HandleTableRequest { owned_only: true, .. }]),
        "{asked:?}"
    );
    let header = foreign.header();
    let empty = EnrpMessage::HandleTableResponse { more: false, reject: false, header, pools: vec![] };
    foreign.say(&mut cluster, &empty);
    assert!(cluster.held(0).is_empty(), "swept");
    assert!(cluster.events.contains(&(0, Event::PeerAudited { server: foreign.id, removed: 1 })));
}

#[test]
fn audits_that_do_not_help_become_rarer() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let mut audits = 0;
    for _ in 0..300 {
        cluster.pass(ms(100));
        foreign.say(&mut cluster, &foreign.presence(Some(crate::types::PeChecksum(1)), None));
        for asked in foreign.take(&mut cluster) {
            if matches!(asked, EnrpMessage::HandleTableRequest { .. }) {
                audits += 1;
                let header = foreign.header();
                let table =
                    EnrpMessage::HandleTableResponse { more: false, reject: false, header, pools: vec![] };
                foreign.say(&mut cluster, &table);
            }
        }
    }
    assert!((5..=9).contains(&audits), "{audits} in 30 s");
}

#[test]
fn a_table_that_was_not_asked_for_is_ignored() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let element = PoolElement { home: Some(foreign.id), ..element(1, "10.1.0.1") };
    let table = EnrpMessage::HandleTableResponse {
        more: false,
        reject: false,
        header: foreign.header(),
        pools: vec![(handle("pool"), vec![Versioned { element, version: None }])],
    };
    foreign.say(&mut cluster, &table);
    assert!(cluster.held(0).is_empty());
}

#[test]
fn a_page_that_does_not_come_breaks_the_link_off() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    foreign.say(&mut cluster, &foreign.presence(Some(crate::types::PeChecksum(1)), None));
    foreign.take(&mut cluster);
    cluster.pass(ms(1_100));
    assert!(!cluster.registrar(0).links.has(foreign.link));
}

#[test]
fn a_peer_that_is_ours_is_known_by_its_digest() {
    let mut cluster = Cluster::running(1);
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let introduction = Introduction { incarnation: 9, digest: Some(0), ..Introduction::default() };
    foreign.say(&mut cluster, &foreign.presence(Some(crate::types::PeChecksum(1)), Some(introduction)));
    let peer = cluster.registrar(0).peers().next().cloned().expect("known");
    assert_eq!((peer.ours, peer.checksum_agrees, peer.digest_agrees), (true, Some(false), Some(true)));
}

#[test]
fn the_element_of_a_peer_that_another_has_more_of_than_fits_one_page_is_audited_by_pages() {
    let mut cluster = Cluster::running(2);
    cluster.lose_messages(true);
    for n in 1..=900 {
        cluster.register(0, &format!("pool {}", n % 5), &element(n, "10.1.0.1"));
    }
    cluster.lose_messages(false);
    cluster.pass(ms(390));
    assert_eq!(cluster.expect_same().len(), 900);
    assert!(cluster.registrar(0).counters().table_pages_sent > 2);
}

#[test]
fn elements_whose_home_nobody_knows_have_it_in_the_list_of_peers() {
    let mut cluster = Cluster::running(2);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    cluster.add(Setup { id: id(2), enrp: vec![tcp(&address(2), 9901)], peers: vec![at(1)], ..setup() });
    cluster.kill(0);
    cluster.start(2);
    assert_eq!(cluster.held(2).len(), 1);
    assert!(cluster.states(2).contains(&(id(0), PeerState::Named)));
}

#[test]
fn a_registration_or_deregistration_that_was_not_granted_is_not_told() {
    let mut cluster = Cluster::running(2);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    cluster.delivered.clear();
    let other = PoolElement { policy: Policy::new(PolicyType::Random, &[]), ..element(2, "10.1.0.2") };
    let stranger = cluster.register(0, "pool", &other);
    let message = AsapMessage::Deregistration { handle: handle("pool"), element: PeId(1) };
    cluster.say(0, stranger, &message);
    assert_eq!((cluster.held(0).len(), cluster.delivered.len()), (1, 0));
}

#[test]
fn a_table_not_gone_on_with_begins_anew() {
    let mut cluster = Cluster::running(1);
    for n in 1..=1_500 {
        cluster.register(0, "pool", &element(n, "10.1.0.1"));
    }
    let mut foreign = Foreign::connect(&mut cluster, 0, 0xf000);
    let request = EnrpMessage::HandleTableRequest { owned_only: false, header: foreign.header() };
    let mut first = |cluster: &mut Cluster| {
        foreign.take(cluster);
        foreign.say(cluster, &request);
        match foreign.take(cluster).as_slice() {
            [EnrpMessage::HandleTableResponse { more: true, pools, .. }] => pools[0].1[0].element.id.0,
            _ => panic!("not the one page, with more to come"),
        }
    };
    assert_eq!(first(&mut cluster), 1);
    assert_ne!(first(&mut cluster), 1);
    cluster.pass_alive(ms(2_100));
    assert_eq!(first(&mut cluster), 1);
}

/// A registrar that is not ours, played by the test.
struct Foreign {
    node: usize,
    link: LinkId,
    id: ServerId,
}

impl Foreign {
    fn connect(cluster: &mut Cluster, node: usize, id: u32) -> Foreign {
        let link = cluster.stranger(node, "10.9.0.1");
        let mut foreign = Foreign { node, link, id: server_id(id) };
        foreign.say(cluster, &foreign.presence(None, None));
        foreign
    }

    fn header(&self) -> EnrpHeader {
        EnrpHeader { sender: Some(self.id), receiver: None }
    }

    fn presence(
        &self,
        checksum: Option<crate::types::PeChecksum>,
        introduction: Option<Introduction>,
    ) -> EnrpMessage {
        let header = self.header();
        EnrpMessage::Presence { reply_required: false, header, checksum, introduction, server: None }
    }

    fn say(&mut self, cluster: &mut Cluster, message: &EnrpMessage) {
        let bytes = message.encode(Dialect::Rfc).unwrap();
        let (link, channel) = (self.link, Channel::Enrp);
        cluster.give(self.node, Input::Message { link, channel, bytes: &bytes, complete: true });
    }

    fn update(
        &mut self,
        cluster: &mut Cluster,
        action: UpdateAction,
        element: &PoolElement,
        version: Option<u64>,
    ) {
        let element = Versioned { element: element.clone(), version };
        let (header, handle) = (self.header(), handle("pool"));
        let update = EnrpMessage::HandleUpdate { takeover_suggested: false, header, action, handle, element };
        self.say(cluster, &update);
    }

    /// What it was sent since.
    fn take(&mut self, cluster: &mut Cluster) -> Vec<EnrpMessage> {
        let all = std::mem::take(&mut cluster.strangers);
        let (its, others) = all.into_iter().partition(|(link, _)| *link == self.link);
        cluster.strangers = others;
        let not_presence = |message: &EnrpMessage| !matches!(message, EnrpMessage::Presence { .. });
        let its: Vec<(LinkId, EnrpMessage)> = its;
        its.into_iter().map(|(_, message)| message).filter(not_presence).collect()
    }
}
