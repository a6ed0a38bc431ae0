use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::Raw;
use crate::recipe::session::{Lifetime, SessionId, SessionName, Sessions};
use crate::{Clock, ErrorKind};

#[derive(Clone, Debug)]
enum Act {
    Create { user: usize, lifetime: usize },
    Touch(usize),
    Save(usize),
    Rotate(usize),
    Destroy(usize),
    DestroyAll(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..2_usize, 0..3_usize).prop_map(|(user, lifetime)| Act::Create { user, lifetime }),
        2 => (0..8_usize).prop_map(Act::Touch),
        1 => (0..8_usize).prop_map(Act::Save),
        1 => (0..8_usize).prop_map(Act::Rotate),
        1 => (0..8_usize).prop_map(Act::Destroy),
        1 => (0..2_usize).prop_map(Act::DestroyAll),
        4 => (1..40_u64).prop_map(Act::Wait),
    ]
}

/// What the model knows of a session: whose, its lifetime, when it ends and when at the latest.
struct Known {
    user: usize,
    lifetime: usize,
    id: SessionId,
    expires: u64,
    ends: u64,
}

const USERS: [&str; 2] = ["ada", "bob"];
/// Idle and absolute ms.
const LIFETIMES: [(u64, u64); 3] = [(20, 60), (50, 50), (10, 200)];

proptest! {
    #[test]
    fn a_list_holds_exactly_what_is_alive_whatever_the_time(acts in proptest::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agrees(acts));
    }
}

async fn agrees(acts: Vec<Act>) {
    let (clock, hand) = Clock::manual();
    let store = Memory::builder().clock(clock).build();
    let ms = Duration::from_millis;
    let handles: Vec<Sessions<Bytes>> = LIFETIMES
        .iter()
        .map(|(idle, absolute)| Sessions::new(store.clone(), Raw, Lifetime::new(ms(*idle), ms(*absolute))).unwrap())
        .collect();
    let mut now = 0;
    let mut model: Vec<Known> = Vec::new();
    for act in acts {
        let picked = |i: usize| model.get(i).map(|known| (known.id.clone(), known.lifetime));
        match act {
            Act::Wait(span) => {
                hand.advance(ms(span));
                now += span;
            }
            Act::Create { user, lifetime } => {
                let id = handles[lifetime].create(Some(USERS[user]), &Bytes::new()).await.unwrap();
                let (idle, absolute) = LIFETIMES[lifetime];
                model.push(Known { user, lifetime, id, expires: now + idle, ends: now + absolute });
            }
            Act::DestroyAll(user) => {
                let gone = model.iter().filter(|known| known.user == user).count();
                assert_eq!(handles[0].destroy_all(USERS[user]).await.unwrap(), gone as u64);
                model.retain(|known| known.user != user);
            }
            Act::Touch(i) | Act::Save(i) | Act::Rotate(i) if model.len() > i => {
                let (id, lifetime) = picked(i).unwrap();
                match act {
                    Act::Touch(_) => assert!(handles[lifetime].touch(&id).await.unwrap().is_some()),
                    Act::Save(_) => assert!(handles[lifetime].save(&id, &Bytes::from_static(b"x")).await.unwrap()),
                    _ => model[i].id = handles[lifetime].rotate(&id).await.unwrap().unwrap(),
                }
                model[i].expires = (now + LIFETIMES[lifetime].0).min(model[i].ends);
            }
            Act::Destroy(i) if model.len() > i => {
                let known = model.remove(i);
                assert!(handles[0].destroy(&known.id).await.unwrap());
            }
            Act::Touch(_) | Act::Save(_) | Act::Rotate(_) | Act::Destroy(_) => {}
        }
        let (live, dead): (Vec<_>, Vec<_>) = model.into_iter().partition(|known| known.expires > now);
        for known in &dead {
            assert!(handles[known.lifetime].get(&known.id).await.unwrap().is_none(), "an ended session is read");
            assert!(handles[known.lifetime].touch(&known.id).await.unwrap().is_none(), "an ended session is touched");
        }
        model = live;
        for (user, name) in USERS.iter().enumerate() {
            let listed = handles[0].list(name).await.unwrap();
            let listed: Vec<SessionName> = listed.into_iter().map(|session| session.name).collect();
            let mine = model.iter().filter(|known| known.user == user);
            let expected: BTreeMap<_, _> = mine.map(|known| ((known.expires, known.id.name()), ())).collect();
            assert_eq!(listed, expected.into_keys().map(|(_, name)| name).collect::<Vec<_>>());
        }
    }
    hand.advance(ms(500));
    for user in USERS {
        assert!(handles[0].list(user).await.unwrap().is_empty());
    }
    assert!(store.is_empty(), "something outlived its sessions");
}

#[tokio::test]
async fn sessions_count_in_the_stores_budget() {
    let store = Memory::builder().bytes(20_000).build();
    let sessions = Sessions::new(store.clone(), Raw, Lifetime::default()).unwrap();
    let data = Bytes::from(vec![0; 1000]);
    let full = loop {
        if let Err(error) = sessions.create(Some("ada"), &data).await {
            break error;
        }
        assert!(store.weight() <= 20_000);
    };
    assert_eq!(full.kind(), ErrorKind::TooLarge);
    assert!(sessions.list("ada").await.unwrap().len() > 5, "a refusal lost sessions");
    for i in 0..100 {
        sessions.create(Some(&format!("user {i}")), &data).await.unwrap();
        assert!(store.weight() <= 20_000, "others do not make room");
    }
    assert_eq!(sessions.list("user 99").await.unwrap().len(), 1);
}
