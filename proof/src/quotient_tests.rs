//! States that are told apart by nothing that matters share a digest; here it is checked that nothing else is lost.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::{Expectation, Model};

use crate::config::{Config, Events, Kind, Warm};
use crate::model::Proof;
use crate::world::World;

type Fixed = BuildHasherDefault<DefaultHasher>;

/// What can be seen of a state and of what follows it: the always-properties, and the digests of its successors.
fn seen(proof: &Proof, world: &World) -> (Vec<bool>, BTreeSet<u64>) {
    let always = proof.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    let properties = always.map(|property| (property.condition)(proof, world)).collect();
    let digests = proof.next_states(world).iter().map(|next| Fixed::default().hash_one(next)).collect();
    (properties, digests)
}

/// Visits every state of `config`, identities and all, and compares those that share a digest.
fn compare(config: Config) {
    let proof = Proof(config);
    let mut known: HashMap<u64, (Vec<bool>, BTreeSet<u64>)> = HashMap::new();
    let mut visited = HashSet::new();
    let mut open = proof.init_states();
    let mut shared = 0;
    while let Some(world) = open.pop() {
        if !visited.insert(Fixed::default().hash_one(format!("{world:?}"))) {
            continue;
        }
        let now = seen(&proof, &world);
        match known.entry(Fixed::default().hash_one(&world)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                shared += 1;
                assert!(
                    *first.get() == now,
                    "{}: a state with a known digest behaves differently: {world:#?}",
                    config.name
                );
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(now);
            }
        }
        open.extend(proof.next_states(&world));
    }
    assert!(shared > 0, "{}: no digest is shared, so nothing was compared", config.name);
}

const SMALL: Config =
    Config { name: "small", ticks: 0, bound: 1, checked: 1, gets: [0, 2, 0], beats: [0; 3], ..Config::BASE };

#[test]
fn the_digest_of_races_forgets_nothing_that_matters() {
    compare(Config { name: "writes", writes: &[(0, Kind::Delete), (0, Kind::Delete)], ..SMALL });
    compare(Config { name: "own", writes: &[(1, Kind::Delete)], ticks: 1, ..SMALL });
    let writes = &[(0, Kind::Update), (0, Kind::Delete)];
    compare(Config { name: "update", warm: Warm::Far, writes, gets: [0, 1, 0], ..SMALL });
    compare(Config { name: "beats", ticks: 1, beats: [0, 1, 0], gets: [0, 1, 0], warm: Warm::Near, ..SMALL });
}

#[test]
fn the_digest_of_tags_and_outages_forgets_nothing_that_matters() {
    compare(Config { name: "tags", tag: Some(7), writes: &[(0, Kind::Tag)], ticks: 1, ..SMALL });
    let events = Events { deaf: 1, ..Config::BASE.events };
    compare(Config { name: "cut off", ticks: 2, outage: 1, beats: [0, 1, 0], gets: [0, 1, 0], events, ..SMALL });
}

#[test]
fn the_digest_of_fallbacks_and_refreshes_forgets_nothing_that_matters() {
    let events = Events { age: 1, origin: 1, ..Config::BASE.events };
    let fallback = Config { name: "fallback", fail_safe: true, warm: Warm::Far, events, ..SMALL };
    compare(fallback);
    compare(Config { name: "fallback, near", warm: Warm::Near, gets: [0, 1, 0], ..fallback });
    let events = Events { refresh: 1, origin: 1, near_evict: 1, ..Config::BASE.events };
    compare(Config { name: "refresh", warm: Warm::Near, events, ..SMALL });
    let events = Events { age: 1, clock: 1, ..Config::BASE.events };
    compare(Config { name: "clock", warm: Warm::Far, events, ..SMALL });
}

#[test]
fn the_digest_of_background_writes_forgets_nothing_that_matters() {
    let writes = &[(1, Kind::Behind), (1, Kind::Delete)];
    compare(Config { name: "behind", warm: Warm::Near, gets: [0, 1, 0], writes, ..SMALL });
}

#[test]
fn the_digest_of_single_steps_forgets_nothing_that_matters() {
    compare(Config {
        name: "fine",
        fine: true,
        warm: Warm::Near,
        gets: [0, 1, 0],
        ticks: 1,
        beats: [0, 1, 0],
        ..SMALL
    });
}
