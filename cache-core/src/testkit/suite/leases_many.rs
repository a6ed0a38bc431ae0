//! Leases on many keys: each equals the loop of its single form, and one key's error touches no other.

use super::frames::{RIVAL, TOKEN, foreign, value};
use super::leases::SPAN;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::{Claim, ErrorKind, Fill, Lease, State};

cases! { "leases", [Service, Leases]:
    "`lease_many` answers each claim in order, as `lease` would." => lease_many_answers_each_claim,
    "One claim that is refused touches no other of its call." => a_refused_claim_touches_no_other,
    "`fill_many` stores what its tokens hold, and refuses the rest one by one." => fill_many_stores_what_is_held,
    "`renew_many` and `release_many` answer each claim in order." => renew_and_release_many_answer_each,
    "A call on no keys answers nothing." => many_of_none_is_fine,
    "A call may claim hundreds of keys." => hundreds_of_keys_are_claimed_and_filled,
}

fn claims<'a>(keys: &'a [String], tokens: &[crate::Stamp]) -> Vec<Claim<'a>> {
    keys.iter().zip(tokens).map(|(key, token)| Claim { key, token: *token }).collect()
}

async fn lease_many_answers_each_claim(t: Context) {
    let keys: Vec<String> = (0..4).map(|i| t.scattered(i)).collect();
    let frame = value(RIVAL, "v").to_bytes(&keys[1]);
    t.set(&keys[1], frame.clone(), LONG).await;
    assert_eq!(t.lease(&keys[2], RIVAL, SPAN).await, Lease::Granted);
    let odd = foreign().swap_remove(0);
    t.set(&keys[3], odd.clone(), LONG).await;
    let answers = t.leases().lease_many(&claims(&keys, &[TOKEN; 4]), SPAN).await;
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0].as_ref().unwrap(), &Lease::Granted);
    assert!(matches!(&answers[1], Ok(Lease::Found(found)) if found.frame == frame), "{:?}", answers[1]);
    assert!(matches!(&answers[2], Ok(Lease::Held { holder, .. }) if *holder == RIVAL), "{:?}", answers[2]);
    assert!(matches!(&answers[3], Ok(Lease::Found(found)) if found.frame == odd), "{:?}", answers[3]);
}

async fn a_refused_claim_touches_no_other(t: Context) {
    let keys = [t.scattered(0), "bad\nkey".to_owned(), t.scattered(1)];
    let answers = t.leases().lease_many(&claims(&keys, &[TOKEN; 3]), SPAN).await;
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    for i in [0, 2] {
        assert_eq!(answers[i].as_ref().unwrap(), &Lease::Granted);
    }
}

async fn fill_many_stores_what_is_held(t: Context) {
    let keys: Vec<String> = (0..3).map(|i| t.scattered(i)).collect();
    let all = claims(&keys, &[TOKEN; 3]);
    t.leases().lease_many(&all[..2], SPAN).await;
    t.store().delete(&keys[1]).await.unwrap();
    let fills: Vec<Fill<'_>> = all
        .iter()
        .map(|claim| Fill { claim: *claim, frame: value(TOKEN, claim.key).to_bytes(claim.key), ttl: LONG })
        .collect();
    let answers = t.leases().fill_many(&fills, &t.line().channel).await;
    let stored: Vec<bool> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored, [true, false, false], "one was invalidated, one never leased");
    assert_eq!(t.get(&keys[0]).await, Some(fills[0].frame.clone()));
    assert_eq!((t.get(&keys[1]).await, t.get(&keys[2]).await), (None, None));
}

async fn renew_and_release_many_answer_each(t: Context) {
    let keys: Vec<String> = (0..2).map(|i| t.scattered(i)).collect();
    t.leases().lease_many(&claims(&keys, &[TOKEN, RIVAL]), SPAN).await;
    let mine = claims(&keys, &[TOKEN; 2]);
    let renewed: Vec<bool> = t.leases().renew_many(&mine, SPAN).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(renewed, [true, false]);
    let channel = t.line().channel;
    let released: Vec<bool> = t.leases().release_many(&mine, &channel).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(released, [true, false]);
    assert_eq!(t.get(&keys[0]).await, None);
    assert_eq!(t.frame(&keys[1]).await.unwrap().header.stamp, RIVAL);
}

async fn many_of_none_is_fine(t: Context) {
    let channel = t.line().channel;
    assert!(t.leases().lease_many(&[], SPAN).await.is_empty());
    assert!(t.leases().renew_many(&[], SPAN).await.is_empty());
    assert!(t.leases().fill_many(&[], &channel).await.is_empty());
    assert!(t.leases().release_many(&[], &channel).await.is_empty());
}

async fn hundreds_of_keys_are_claimed_and_filled(t: Context) {
    let keys: Vec<String> = (0..300).map(|i| t.scattered(i)).collect();
    let all = claims(&keys, &[TOKEN; 300]);
    let leased = t.leases().lease_many(&all, SPAN).await;
    assert!(leased.iter().all(|answer| matches!(answer, Ok(Lease::Granted))));
    let fills: Vec<Fill<'_>> = all
        .iter()
        .map(|claim| Fill { claim: *claim, frame: value(TOKEN, claim.key).to_bytes(claim.key), ttl: LONG })
        .collect();
    let filled = t.leases().fill_many(&fills, &t.line().channel).await;
    assert!(filled.into_iter().all(|answer| answer.unwrap()));
    for key in &keys {
        assert_eq!(t.frame(key).await.unwrap().header.state, State::Value);
    }
}
