//! Reports to a monitor.

use super::*;
use crate::csp::{Association, ComponentId, Monitor, Status};

fn reporting() -> World {
    let mut world = World::new();
    let monitor = Monitor { address: "127.0.0.1:2960".parse().unwrap(), interval: ms(1000) };
    world.registrar.report_to(monitor, "host: 10.0.0.100:3863".to_owned());
    world
}

fn reports(world: &mut World) -> Vec<Report> {
    let report = |done| match done {
        Done::Report(report) => Some(report),
        _ => None,
    };
    world.done().into_iter().filter_map(report).collect()
}

fn text(reports: &[Report]) -> &str {
    let [Report { status: Some(status), .. }] = reports else { panic!("{reports:?}") };
    &status.text
}

#[test]
fn reports_at_once_and_each_interval_what_it_holds() {
    let mut world = reporting();
    world.pass(ms(0));
    let first = reports(&mut world);
    assert_eq!(text(&first), "0[0] PEs in 0 Pools, 0 Peers");
    assert_eq!((first[0].sender, first[0].interval), (ComponentId::registrar(Some(me())), ms(1000)));
    let client = world.client("10.0.0.1");
    world.register(client, "pool", &element(1, "10.0.0.1")).unwrap();
    world.pass_alive(ms(990), &[("pool", 1)]);
    world.pass(ms(10));
    let second = reports(&mut world);
    assert_eq!(text(&second), "1[1] PEs in 1 Pool, 0 Peers");
    assert_eq!(second[0].uptime, ms(1000));
    let status = second[0].status.as_ref().unwrap();
    assert_eq!((status.location.as_str(), status.workload), ("host: 10.0.0.100:3863", None));
}

#[test]
fn peers_are_its_associations() {
    let mut world = reporting();
    world.pass(ms(0));
    let link = peers::accepted(&mut world);
    peers::send(&mut world, link, &peers::presence(false));
    world.done();
    world.pass(ms(1000));
    let reports = reports(&mut world);
    assert_eq!(text(&reports), "0[0] PEs in 0 Pools, 1 Peer");
    let peer = ComponentId::registrar(Some(peers::peer()));
    let association = Association { peer, duration: ms(1000), protocol: 6, ppid: 12 };
    assert_eq!(reports[0].status.as_ref().unwrap().associations, [association]);
}

#[test]
fn its_last_report_says_that_it_leaves() {
    let mut world = reporting();
    world.pass(ms(0));
    world.done();
    let now = world.now;
    world.registrar.shutdown(now);
    world.registrar.shutdown(now);
    world.drain();
    let last = reports(&mut world);
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].status, None::<Status>);
    world.pass(ms(5000));
    assert_eq!(reports(&mut world), []);
}

#[test]
fn nobody_is_told_unless_asked() {
    let mut world = World::new();
    world.pass(ms(5000));
    world.registrar.shutdown(world.now);
    world.drain();
    assert_eq!(reports(&mut world), []);
}
