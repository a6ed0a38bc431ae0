//! What the layer of tower-sessions asks of its store, with an eye on what goes wrong in others.

use std::collections::HashMap;

use cache_core::{CacheService, ErrorKind, Memory};
use tower_sessions::cookie::time::{Duration as Span, OffsetDateTime};

use super::*;

fn record(id: i128, left: Span) -> Record {
    let data = HashMap::from([("user".to_owned(), serde_json::json!("ada"))]);
    Record { id: Id(id), data, expiry_date: OffsetDateTime::now_utc() + left }
}

fn pair() -> (Memory, TowerSessions) {
    let memory = Memory::new();
    (memory.clone(), TowerSessions::new(memory).prefix("shop").unwrap())
}

#[tokio::test]
async fn a_session_is_read_back_until_it_is_deleted() {
    let (memory, sessions) = pair();
    let mut ada = record(7, Span::hours(1));
    sessions.create(&mut ada).await.unwrap();
    assert_eq!(sessions.load(&ada.id).await.unwrap(), Some(ada.clone()));
    ada.data.insert("basket".to_owned(), serde_json::json!([1, 2]));
    sessions.save(&ada).await.unwrap();
    assert_eq!(sessions.load(&ada.id).await.unwrap(), Some(ada.clone()));
    let keys = memory.sweep().unwrap().keys("shop:").await.unwrap();
    assert!(keys.len() == 1 && !keys[0].contains(&ada.id.to_string()), "the store knows the id");
    assert_eq!(sessions.load(&Id(8)).await.unwrap(), None);
    sessions.delete(&ada.id).await.unwrap();
    sessions.delete(&ada.id).await.unwrap();
    assert_eq!(sessions.load(&ada.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_saves_late_revives_nothing() {
    let (memory, sessions) = pair();
    let mut ada = record(7, Span::hours(1));
    sessions.create(&mut ada).await.unwrap();
    // logged out, while another request was under way
    sessions.delete(&ada.id).await.unwrap();
    sessions.save(&ada).await.unwrap();
    assert_eq!(sessions.load(&ada.id).await.unwrap(), None);
    assert!(memory.sweep().unwrap().keys("shop:").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_id_that_is_taken_is_not_taken_over() {
    let (_, sessions) = pair();
    let (mut ada, mut bob) = (record(7, Span::hours(1)), record(7, Span::hours(1)));
    bob.data.clear();
    sessions.create(&mut ada).await.unwrap();
    sessions.create(&mut bob).await.unwrap();
    assert_ne!(ada.id, bob.id);
    assert_eq!(sessions.load(&ada.id).await.unwrap(), Some(ada));
    assert_eq!(sessions.load(&bob.id).await.unwrap(), Some(bob));
}

#[tokio::test]
async fn what_has_expired_is_gone_and_saving_it_so_deletes_it() {
    let (memory, sessions) = pair();
    let keys = async || memory.sweep().unwrap().keys("shop:").await.unwrap().len();
    let mut late = record(7, -Span::seconds(1));
    sessions.create(&mut late).await.unwrap();
    assert_eq!(keys().await, 0);
    let mut ada = record(7, Span::hours(1));
    sessions.create(&mut ada).await.unwrap();
    sessions.save(&late).await.unwrap();
    assert_eq!((keys().await, sessions.load(&ada.id).await.unwrap()), (0, None));
    // a record that outlived its date, as on a store whose clock is behind
    let mut ada = record(7, Span::hours(1));
    sessions.create(&mut ada).await.unwrap();
    let key = memory.sweep().unwrap().keys("shop:").await.unwrap().remove(0);
    let text = serde_json::to_vec(&(&late.data, &late.expiry_date)).unwrap();
    memory.set(&key, text.into(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(sessions.load(&ada.id).await.unwrap(), None);
}

#[tokio::test]
async fn errors_are_told_and_name_neither_id_nor_data() {
    let mut ada = record(7, Span::hours(1));
    let mut server = cache_redis::testkit::Server::spawn().unwrap();
    let gone = TowerSessions::new(cache_redis::Redis::connect(server.patient_url()).await.unwrap());
    server.kill();
    let (memory, sessions) = pair();
    let mut large = ada.clone();
    large.data.insert("large".to_owned(), serde_json::json!("secret".repeat(memory.max_value())));
    let key = sessions.key(ada.id);
    memory.set(&key, "secret".into(), Duration::from_secs(60)).await.unwrap();
    for error in [
        gone.create(&mut ada).await.unwrap_err(),
        gone.save(&ada).await.unwrap_err(),
        gone.load(&ada.id).await.unwrap_err(),
        gone.delete(&ada.id).await.unwrap_err(),
        sessions.create(&mut large).await.unwrap_err(),
        sessions.load(&ada.id).await.unwrap_err(),
    ] {
        let shown = format!("{error} {error:?} {sessions:?}");
        assert!(!shown.contains("secret") && !shown.contains(&ada.id.to_string()), "{shown}");
    }
    for bad in ["", "a\nb", &"x".repeat(1020)] {
        assert_eq!(TowerSessions::new(Memory::new()).prefix(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
}
