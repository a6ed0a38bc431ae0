//! Sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::task::JoinSet;

use super::value::foreign;
use super::{BAD_TTLS, Context, promises, refused};
use crate::codec::Raw;
use crate::recipe::session::{Lifetime, SessionId, SessionName, SessionStore, Sessions};
use crate::testkit::context::LONG;
use crate::testkit::eventually;
use crate::{ErrorKind, Reply, Result};

promises! { dyn SessionStore:
    "A session is read back with its user, its data and its times." => a_session_is_read_back,
    "An id that never was, and one of another prefix, have no session." => unknown_ids_have_no_session,
    "`touch` prolongs a session, `get` does not." => touch_prolongs_and_get_does_not,
    "Touched or not, a session ends at its absolute time." => a_session_ends_at_its_absolute_time,
    "`save` replaces the data of a live session, and never revives one that has ended." => save_never_revives,
    "`rotate` moves a session to a new id, and the old one is nobody's." => rotate_moves_to_a_new_id,
    "Of many `rotate` of one id at once, one has the session." => rotate_has_one_winner,
    "A login ends the visitor's session and makes one of the user." => a_login_changes_the_id,
    "`destroy` ends a session once." => destroy_ends_a_session_once,
    "`destroy_all` ends every session of a user, and of nobody else." => destroy_all_ends_a_users_sessions,
    "`destroy_others` keeps the one session." => destroy_others_keeps_one,
    "A session rotated at the same time does not escape `destroy_all`." => no_session_escapes_destroy_all,
    "A listed session can be ended by its name." => a_listed_session_is_ended_by_name,
    "A list never holds a session that has ended." => a_list_never_holds_the_dead,
    "When the last session of a user has ended, nothing is left." => nothing_is_left,
    "Random calls agree with a simple model, and so does every list." => random_calls_agree_with_a_model,
    "The keys of the store tell neither ids nor users." => keys_tell_neither_ids_nor_users,
    "A bad lifetime, prefix, user or value is refused, and nothing is made." => bad_arguments_are_refused,
    "A key that holds another kind of value is `Conflict`, and it is untouched." => another_kind_is_untouched,
}

type Store = Context<dyn SessionStore>;

fn prefix(t: &Store) -> String {
    t.key("s").replace(['{', '}'], "")
}

fn sessions(t: &Store, lifetime: Lifetime) -> Sessions<Bytes> {
    Sessions::new(t.store(), Raw, lifetime).and_then(|all| all.prefix(&prefix(t))).expect("sessions")
}

fn long(t: &Store) -> Sessions<Bytes> {
    sessions(t, Lifetime::fixed(LONG))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn names(sessions: &Sessions<Bytes>, user: &str) -> BTreeSet<SessionName> {
    sessions.list(user).await.unwrap().into_iter().map(|session| session.name).collect()
}

async fn a_session_is_read_back(t: Store) {
    let sessions = sessions(&t, Lifetime::new(LONG / 2, LONG));
    for (user, data) in [(Some("ada"), "a\0:\r\n{}"), (Some("é:1:2"), ""), (None, "1:2:3:x")] {
        let id = sessions.create(user, &bytes(data)).await.unwrap();
        for session in [sessions.get(&id).await, sessions.touch(&id).await] {
            let session = session.unwrap().unwrap();
            assert_eq!((session.name, session.user.as_deref()), (id.name(), user));
            assert_eq!(session.data, bytes(data));
            assert_eq!(session.ends.duration_since(session.created).unwrap(), LONG);
            let idle = session.expires.duration_since(session.created).unwrap();
            assert!((LONG / 2..LONG).contains(&idle), "{idle:?}");
        }
    }
}

async fn unknown_ids_have_no_session(t: Store) {
    let sessions = long(&t);
    let id = sessions.create(Some("ada"), &bytes("x")).await.unwrap();
    let made_up = SessionId::parse(&"0".repeat(SessionId::LEN)).unwrap();
    // in the place of a user, which can be guessed, the secret can't
    let guessed = SessionId::parse(&(id.expose()[..32].to_owned() + &"0".repeat(48))).unwrap();
    let elsewhere = Sessions::<Bytes>::new(t.store(), Raw, Lifetime::default()).unwrap();
    let elsewhere = elsewhere.prefix(&format!("{}2", prefix(&t))).unwrap();
    for (sessions, id) in [(&sessions, &made_up), (&sessions, &guessed), (&elsewhere, &id)] {
        assert!(sessions.get(id).await.unwrap().is_none());
        assert!(sessions.touch(id).await.unwrap().is_none());
        assert!(sessions.rotate(id).await.unwrap().is_none());
        assert!(sessions.rotate_as(id, "ada", &bytes("x")).await.unwrap().is_none());
        assert!(!sessions.save(id, &bytes("x")).await.unwrap());
        assert!(!sessions.destroy(id).await.unwrap());
    }
    assert_eq!(elsewhere.destroy_all("ada").await.unwrap(), 0);
    assert_eq!(names(&sessions, "ada").await, BTreeSet::from([id.name()]));
}

async fn touch_prolongs_and_get_does_not(t: Store) {
    // long enough that a touch comes in time on a busy machine
    let sessions = sessions(&t, Lifetime::new(Duration::from_secs(2), LONG));
    let touched = sessions.create(Some("ada"), &bytes("a")).await.unwrap();
    let seen = sessions.create(Some("ada"), &bytes("b")).await.unwrap();
    let before = sessions.get(&touched).await.unwrap().unwrap().expires;
    eventually("a session that is only looked at ends", || async {
        assert!(sessions.touch(&touched).await.unwrap().is_some(), "a touched session ended");
        sessions.get(&seen).await.unwrap().is_none()
    })
    .await;
    assert!(sessions.get(&touched).await.unwrap().unwrap().expires > before);
    assert_eq!(names(&sessions, "ada").await, BTreeSet::from([touched.name()]));
}

async fn a_session_ends_at_its_absolute_time(t: Store) {
    let span = Duration::from_millis(300);
    let sessions = sessions(&t, Lifetime::fixed(span));
    let id = sessions.create(None, &bytes("a")).await.unwrap();
    eventually("a session that is always touched ends", || async {
        match sessions.touch(&id).await.unwrap() {
            Some(session) => {
                assert_eq!(session.expires, session.ends);
                false
            }
            None => true,
        }
    })
    .await;
    assert!(sessions.rotate(&id).await.unwrap().is_none(), "an ended session was rotated");
}

async fn save_never_revives(t: Store) {
    let sessions = long(&t);
    let id = sessions.create(Some("ada"), &bytes("old")).await.unwrap();
    let before = sessions.get(&id).await.unwrap().unwrap();
    assert!(sessions.save(&id, &bytes("new: and longer")).await.unwrap());
    let after = sessions.get(&id).await.unwrap().unwrap();
    assert_eq!((&*after.data, after.user.as_deref()), (&b"new: and longer"[..], Some("ada")));
    assert_eq!((after.created, after.ends), (before.created, before.ends));
    assert!(sessions.destroy(&id).await.unwrap());
    assert!(!sessions.save(&id, &bytes("back")).await.unwrap());
    assert!(sessions.get(&id).await.unwrap().is_none());
    assert!(sessions.list("ada").await.unwrap().is_empty());
}

async fn rotate_moves_to_a_new_id(t: Store) {
    let sessions = long(&t);
    let old = sessions.create(Some("ada"), &bytes("data")).await.unwrap();
    let before = sessions.get(&old).await.unwrap().unwrap();
    let new = sessions.rotate(&old).await.unwrap().unwrap();
    assert_ne!(old.expose(), new.expose());
    let after = sessions.get(&new).await.unwrap().unwrap();
    assert_eq!((after.user, after.data), (before.user, before.data));
    assert_eq!((after.created, after.ends), (before.created, before.ends), "a rotation prolonged the absolute end");
    assert!(sessions.get(&old).await.unwrap().is_none());
    assert!(sessions.rotate(&old).await.unwrap().is_none());
    assert_eq!(names(&sessions, "ada").await, BTreeSet::from([new.name()]));
}

async fn rotate_has_one_winner(t: Store) {
    let id = long(&t).create(Some("ada"), &bytes("x")).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (sessions, id) = (long(&t), id.clone());
        tasks.spawn(async move { sessions.rotate(&id).await.unwrap() });
    }
    let winners: Vec<SessionId> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(names(&long(&t), "ada").await, BTreeSet::from([winners[0].name()]));
}

async fn a_login_changes_the_id(t: Store) {
    let sessions = long(&t);
    let visitor = sessions.create(None, &bytes("basket")).await.unwrap();
    let id = sessions.rotate_as(&visitor, "ada", &bytes("basket")).await.unwrap().unwrap();
    assert!(sessions.get(&visitor).await.unwrap().is_none());
    let session = sessions.get(&id).await.unwrap().unwrap();
    assert_eq!((session.user.as_deref(), session.data), (Some("ada"), bytes("basket")));
    assert!(sessions.rotate_as(&visitor, "ada", &bytes("x")).await.unwrap().is_none());
    assert_eq!(names(&sessions, "ada").await, BTreeSet::from([id.name()]));
}

async fn destroy_ends_a_session_once(t: Store) {
    let sessions = long(&t);
    let a = sessions.create(Some("ada"), &bytes("x")).await.unwrap();
    let b = sessions.create(None, &bytes("y")).await.unwrap();
    for id in [&a, &b] {
        assert!(sessions.destroy(id).await.unwrap());
        assert!(!sessions.destroy(id).await.unwrap());
        assert!(sessions.get(id).await.unwrap().is_none());
    }
}

async fn destroy_all_ends_a_users_sessions(t: Store) {
    let sessions = long(&t);
    let mut ids = Vec::new();
    for i in 0..5_u8 {
        ids.push(sessions.create(Some("ada"), &vec![i].into()).await.unwrap());
    }
    ids[0] = sessions.rotate(&ids[0]).await.unwrap().unwrap();
    let other = sessions.create(Some("adam"), &bytes("x")).await.unwrap();
    let nobody = sessions.create(None, &bytes("y")).await.unwrap();
    assert_eq!(sessions.destroy_all("ada").await.unwrap(), 5);
    for id in &ids {
        assert!(sessions.get(id).await.unwrap().is_none());
    }
    assert!(sessions.list("ada").await.unwrap().is_empty());
    assert!(sessions.get(&other).await.unwrap().is_some());
    assert!(sessions.get(&nobody).await.unwrap().is_some());
    assert_eq!(sessions.destroy_all("ada").await.unwrap(), 0);
}

async fn destroy_others_keeps_one(t: Store) {
    let sessions = long(&t);
    let kept = sessions.create(Some("ada"), &bytes("kept")).await.unwrap();
    for _ in 0..3 {
        sessions.create(Some("ada"), &bytes("x")).await.unwrap();
    }
    assert_eq!(sessions.destroy_others("ada", &kept).await.unwrap(), 3);
    assert_eq!(sessions.touch(&kept).await.unwrap().unwrap().data, bytes("kept"));
    assert_eq!(names(&sessions, "ada").await, BTreeSet::from([kept.name()]));
    let ended = sessions.create(Some("ada"), &bytes("x")).await.unwrap();
    sessions.destroy(&ended).await.unwrap();
    assert_eq!(sessions.destroy_others("ada", &ended).await.unwrap(), 1, "an ended session is none to keep");
    assert!(sessions.list("ada").await.unwrap().is_empty());
}

async fn no_session_escapes_destroy_all(t: Store) {
    for _ in 0..10 {
        let sessions = long(&t);
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let id = sessions.create(Some("ada"), &bytes("x")).await.unwrap();
            let sessions = sessions.clone();
            tasks.spawn(async move {
                let mut id = id;
                while let Some(next) = sessions.rotate(&id).await.unwrap() {
                    id = next;
                    tokio::task::yield_now().await;
                }
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(sessions.destroy_all("ada").await.unwrap(), 4);
        assert!(sessions.list("ada").await.unwrap().is_empty(), "a session escaped");
        tasks.join_all().await;
    }
}

async fn a_listed_session_is_ended_by_name(t: Store) {
    let sessions = long(&t);
    let here = sessions.create(Some("ada"), &bytes("here")).await.unwrap();
    let there = sessions.create(Some("ada"), &bytes("there")).await.unwrap();
    let listed = sessions.list("ada").await.unwrap();
    let other = listed.iter().find(|session| session.name != here.name()).unwrap();
    assert_eq!((&*other.data, other.user.as_deref()), (&b"there"[..], Some("ada")));
    assert!(!sessions.destroy_named("eve", other.name).await.unwrap(), "another user ended it");
    assert!(sessions.destroy_named("ada", other.name).await.unwrap());
    assert!(!sessions.destroy_named("ada", other.name).await.unwrap());
    assert!(sessions.get(&there).await.unwrap().is_none());
    assert!(sessions.get(&here).await.unwrap().is_some());
}

async fn a_list_never_holds_the_dead(t: Store) {
    let brief = sessions(&t, Lifetime::fixed(Duration::from_millis(120)));
    let long = long(&t);
    let stays = long.create(Some("ada"), &bytes("stays")).await.unwrap();
    let mut ids = vec![stays.clone()];
    for i in 0..6_u8 {
        ids.push(brief.create(Some("ada"), &vec![i].into()).await.unwrap());
    }
    eventually("only the long one is listed", || async {
        let listed = names(&long, "ada").await;
        for id in &ids {
            // alive after the list, so it must be in it
            let alive = long.get(id).await.unwrap().is_some();
            assert!(!alive || listed.contains(&id.name()), "a live session is not listed");
        }
        listed == BTreeSet::from([stays.name()])
    })
    .await;
    for id in &ids[1..] {
        assert!(long.get(id).await.unwrap().is_none());
    }
    assert_eq!(long.destroy_all("ada").await.unwrap(), 1, "the dead were counted");
}

async fn nothing_is_left(t: Store) {
    let (brief, long, prefix) = (sessions(&t, Lifetime::fixed(Duration::from_millis(100))), long(&t), prefix(&t));
    let store = t.store();
    let keys = async || store.sweep().expect("a sweep").keys(&prefix).await.unwrap();
    brief.create(Some("ada"), &bytes("x")).await.unwrap();
    brief.create(None, &bytes("x")).await.unwrap();
    let ended = long.create(Some("eve"), &bytes("x")).await.unwrap();
    assert!(!keys().await.is_empty(), "the sessions are not where the test looks");
    assert!(long.destroy(&ended).await.unwrap());
    eventually("all keys are gone", || async { keys().await.is_empty() }).await;
}

async fn random_calls_agree_with_a_model(t: Store) {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let sessions = long(&t);
    let users = ["ada", "bob"];
    let mut model: BTreeMap<(&str, SessionName), (SessionId, Bytes)> = BTreeMap::new();
    let mut dead: Vec<SessionId> = Vec::new();
    for step in 0..150 {
        let told = || format!("seed {seed}, step {step}");
        let user = users[random.usize(..2)];
        let data = Bytes::from(format!("data {step}"));
        let live: Vec<_> = model.keys().filter(|key| key.0 == user).copied().collect();
        let pick = (!live.is_empty()).then(|| live[random.usize(..live.len())]);
        match (random.u8(..8), pick) {
            (0..=2, _) | (_, None) => {
                let id = sessions.create(Some(user), &data).await.unwrap();
                model.insert((user, id.name()), (id, data));
            }
            (3, Some(key)) => {
                let (id, data) = model.remove(&key).unwrap();
                let fresh = sessions.rotate(&id).await.unwrap().unwrap_or_else(|| panic!("{}", told()));
                model.insert((user, fresh.name()), (fresh, data));
                dead.push(id);
            }
            (4, Some(key)) => {
                let (id, _) = model.remove(&key).unwrap();
                assert!(sessions.destroy(&id).await.unwrap(), "{}", told());
                dead.push(id);
            }
            (5, Some(key)) => {
                assert!(sessions.save(&model[&key].0, &data).await.unwrap(), "{}", told());
                model.get_mut(&key).unwrap().1 = data;
            }
            (6, Some(key)) => {
                let gone: Vec<_> = live.iter().filter(|other| **other != key).collect();
                assert_eq!(sessions.destroy_others(user, &model[&key].0).await.unwrap(), gone.len() as u64);
                dead.extend(gone.into_iter().map(|key| model.remove(key).unwrap().0));
            }
            (_, Some(_)) if random.u8(..4) == 0 => {
                assert_eq!(sessions.destroy_all(user).await.unwrap(), live.len() as u64, "{}", told());
                dead.extend(live.iter().map(|key| model.remove(key).unwrap().0));
            }
            (_, Some(key)) => {
                let session = sessions.touch(&model[&key].0).await.unwrap().unwrap_or_else(|| panic!("{}", told()));
                assert_eq!(session.data, model[&key].1, "{}", told());
            }
        }
        let listed = sessions.list(user).await.unwrap();
        let listed: BTreeMap<_, _> = listed.into_iter().map(|session| ((user, session.name), session.data)).collect();
        let expected = model.iter().filter(|(key, _)| key.0 == user);
        let expected: BTreeMap<_, _> = expected.map(|(key, (_, data))| (*key, data.clone())).collect();
        assert_eq!(listed, expected, "{}", told());
        if let Some(id) = dead.last() {
            assert!(sessions.get(id).await.unwrap().is_none(), "{}", told());
        }
    }
}

async fn keys_tell_neither_ids_nor_users(t: Store) {
    let sessions = long(&t);
    let id = sessions.create(Some("ada@example.com"), &bytes("x")).await.unwrap();
    let keys = t.store().sweep().expect("a sweep").keys(&prefix(&t)).await.unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert!(!key.contains("ada") && !key.contains(&id.expose()[32..]), "{key}");
    }
    let session = sessions.get(&id).await.unwrap().unwrap();
    let shown = format!("{id:?} {session:?} {sessions:?}");
    assert!(!shown.contains("ada") && !shown.contains(&id.expose()[..8]), "{shown}");
}

async fn bad_arguments_are_refused(t: Store) {
    let invalid = ErrorKind::Invalid;
    let made = |lifetime| Sessions::<Bytes>::new(t.store(), Raw, lifetime);
    let second = Duration::from_secs(1);
    for (idle, absolute) in
        [(Duration::ZERO, second), (second, Duration::ZERO), (second, Duration::MAX), (second * 2, second)]
    {
        refused("a lifetime", invalid, made(Lifetime::new(idle, absolute)));
    }
    for ttl in BAD_TTLS {
        refused("a lifetime", invalid, made(Lifetime::fixed(ttl)));
    }
    for prefix in ["", "a{b", "a}b", "a\nb", &"x".repeat(crate::MAX_KEY - 20)] {
        refused("a prefix", invalid, made(Lifetime::default()).unwrap().prefix(prefix));
    }
    let sessions = long(&t);
    let visitor = sessions.create(None, &bytes("x")).await.unwrap();
    for user in ["", "a\nb", &"x".repeat(1025)] {
        refused("a user", invalid, sessions.create(Some(user), &bytes("x")).await);
        refused("a user", invalid, sessions.rotate_as(&visitor, user, &bytes("x")).await);
        refused("a user", invalid, sessions.list(user).await);
        refused("a user", invalid, sessions.destroy_all(user).await);
        refused("a user", invalid, sessions.destroy_others(user, &visitor).await);
        refused("a user", invalid, sessions.destroy_named(user, visitor.name()).await);
    }
    let over = Bytes::from(vec![0; t.store().max_value() + 1]);
    refused("a value", ErrorKind::TooLarge, sessions.create(Some("ada"), &over).await);
    refused("a value", ErrorKind::TooLarge, sessions.save(&visitor, &over).await);
    refused("a value", ErrorKind::TooLarge, sessions.rotate_as(&visitor, "ada", &over).await);
    assert_eq!(sessions.get(&visitor).await.unwrap().unwrap().data, bytes("x"));
    assert!(sessions.list("ada").await.unwrap().is_empty());
}

async fn another_kind_is_untouched(t: Store) {
    let (store, payload) = (t.store(), bytes("x"));
    let text = t.key("text");
    store.set(&text, payload.clone(), LONG).await.unwrap();
    for key in [foreign(&*store, t.key("")).await, text.clone()] {
        let results: [Result<()>; 8] = [
            store.open(&key, "n", "ada", payload.clone(), 1000, 1000).await,
            store.look(&key, "n").await.map(drop),
            store.touch(&key, "n", 1000).await.map(drop),
            store.save(&key, "n", payload.clone(), 1000).await.map(drop),
            store.rename(&key, "n", "m", 1000).await.map(drop),
            store.end(&key, "n").await.map(drop),
            store.end_all(&key, None).await.map(drop),
            store.list(&key).await.map(drop),
        ];
        for result in results {
            assert_eq!(refused("a step", ErrorKind::Conflict, result).reply(), Some(Reply::WrongType));
        }
        assert!(store.exists(&key).await.unwrap(), "the foreign key is gone");
    }
    assert_eq!(store.get(&text).await.unwrap(), Some(payload));
}
