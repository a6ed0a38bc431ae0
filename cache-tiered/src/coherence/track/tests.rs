use super::*;

const D: Duration = Duration::from_secs(2);

fn at(s: u64) -> Tick {
    Tick::ZERO + Duration::from_secs(s)
}

fn beat(seq: u64) -> Beat {
    Beat { seq: Some(seq), created: false, server_ms: 0, run: 1 }
}

fn started(seq: u64) -> Track {
    let mut track = Track::new(D);
    let ticket = track.beat_sent(at(1));
    assert_eq!(track.beat_reply(ticket, &beat(seq), at(1), true), Verdict::Bumped(Bump::First));
    track
}

#[test]
fn trust_runs_from_the_send_of_a_beat() {
    let mut track = started(10);
    let ticket = track.beat_sent(at(5));
    assert_eq!(track.beat_reply(ticket, &beat(10), at(6), true), Verdict::Trusted);
    assert_eq!(track.trust_until(), at(7));
}

#[test]
fn a_late_reply_never_shortens_trust() {
    let mut track = started(10);
    let (early, late) = (track.beat_sent(at(5)), track.beat_sent(at(6)));
    track.beat_reply(late, &beat(10), at(6), true);
    track.beat_reply(early, &beat(10), at(7), true);
    assert_eq!(track.trust_until(), at(8));
}

#[test]
fn changes_out_of_order_close_up() {
    let mut track = started(10);
    let epoch = track.epoch();
    for n in [13, 11, 12, 12] {
        track.mark(n);
    }
    assert_eq!(track.applied(), 13);
    let ticket = track.beat_sent(at(3));
    assert_eq!(track.beat_reply(ticket, &beat(13), at(3), true), Verdict::Trusted);
    assert_eq!(track.epoch(), epoch);
}

#[test]
fn a_gap_waits_once_and_then_begins_an_epoch_with_trust() {
    let mut track = started(10);
    let epoch = track.epoch();
    track.mark(12);
    let ticket = track.beat_sent(at(3));
    assert_eq!(track.beat_reply(ticket, &beat(12), at(3), true), Verdict::Wait);
    assert_eq!(track.beat_reply(ticket, &beat(12), at(3), false), Verdict::Bumped(Bump::Gap));
    assert_eq!((track.epoch(), track.applied(), track.trust_until()), (epoch + 1, 12, at(5)));
}

#[test]
fn a_sequence_that_goes_back_begins_an_epoch() {
    let mut track = started(10);
    let ticket = track.beat_sent(at(3));
    assert_eq!(track.beat_reply(ticket, &beat(9), at(3), true), Verdict::Bumped(Bump::Reset));
    assert_eq!(track.applied(), 9);
}

#[test]
fn a_low_number_in_a_reply_that_left_before_the_change_is_no_step_back() {
    let mut track = started(10);
    let ticket = track.beat_sent(at(3));
    track.mark(11);
    assert_eq!(track.beat_reply(ticket, &beat(10), at(3), true), Verdict::Trusted);
}

#[test]
fn a_made_sequence_and_a_new_run_begin_epochs() {
    let mut track = started(10);
    let ticket = track.beat_sent(at(3));
    let made = Beat { created: true, ..beat(50) };
    assert_eq!(track.beat_reply(ticket, &made, at(3), true), Verdict::Bumped(Bump::Reset));
    let ticket = track.beat_sent(at(4));
    let other = Beat { run: 2, ..beat(50) };
    assert_eq!(track.beat_reply(ticket, &other, at(4), true), Verdict::Bumped(Bump::Run));
    let ticket = track.beat_sent(at(5));
    assert_eq!(track.beat_reply(ticket, &other, at(5), true), Verdict::Trusted);
}

#[test]
fn numbers_that_an_old_server_gave_hide_no_change_of_the_new_one() {
    let mut track = started(10);
    // 11 was lost on its way, and 11 to 13 are lost with the server
    track.mark(12);
    track.mark(13);
    let ticket = track.beat_sent(at(3));
    let other = Beat { run: 2, ..beat(10) };
    assert_eq!(track.beat_reply(ticket, &other, at(3), true), Verdict::Bumped(Bump::Run));
    track.mark(11);
    assert!(!track.knows(12), "the new server's 12 is another change");
    let ticket = track.beat_sent(at(4));
    assert_eq!(track.beat_reply(ticket, &Beat { run: 2, ..beat(13) }, at(4), false), Verdict::Bumped(Bump::Gap));
}

#[test]
fn no_sequence_no_trust() {
    let mut track = started(10);
    let ticket = track.beat_sent(at(9));
    let none = Beat { seq: None, ..beat(0) };
    assert_eq!(track.beat_reply(ticket, &none, at(9), true), Verdict::Untrusted);
    assert_eq!(track.trust_until(), at(3));
}

#[test]
fn too_many_changes_beyond_a_gap_begin_an_epoch() {
    let mut track = started(10);
    for n in 0..=MOST_AHEAD as u64 {
        track.mark(20 + n);
    }
    let ticket = track.beat_sent(at(3));
    assert_eq!(track.beat_reply(ticket, &beat(20), at(3), true), Verdict::Bumped(Bump::Gap));
}

#[test]
fn a_bump_invalidates_what_was_loaded_before_it() {
    let mut track = started(10);
    track.bump(11, 7);
    assert_eq!(track.judge(10, &[7]), Judged::Invalid);
    assert_eq!(track.judge(11, &[7]), Judged::Valid);
    assert_eq!(track.judge(10, &[8]), Judged::Valid);
    track.bump(12, envelope::ALL);
    assert_eq!(track.judge(11, &[]), Judged::Invalid);
    assert_eq!(track.judge(12, &[]), Judged::Valid);
}

/// FusionCache's receivers take whichever of two marks comes last.
#[test]
fn a_bump_that_comes_late_does_not_undo_a_newer_one() {
    for tag in [7, envelope::ALL] {
        let mut track = started(10);
        track.bump(12, tag);
        track.bump(11, tag);
        assert_eq!(track.judge(11, &[7]), Judged::Invalid);
        let stale = Generations { bumps: vec![11], floor: 0 };
        track.learn(track.epoch(), &[tag], &stale);
        assert_eq!(track.judge(11, &[7]), Judged::Invalid);
        assert_eq!(track.judge(12, &[7]), Judged::Valid);
    }
}

#[test]
fn an_unnumbered_bump_puts_everything_loaded_so_far_to_the_test() {
    let mut track = started(10);
    let epoch = track.epoch();
    assert_eq!(track.judge(10, &[7]), Judged::Valid);
    track.bump(0, 7);
    assert_eq!(track.epoch(), epoch + 1);
    assert_eq!(track.judge(10, &[7]), Judged::Ask);
    track.bump(12, 7);
    assert_eq!(track.judge(10, &[7]), Judged::Invalid, "a known bump needs no asking");
}

#[test]
fn entries_older_than_the_epoch_need_the_far_stores_word() {
    let mut track = started(10);
    assert_eq!(track.judge(9, &[7]), Judged::Ask);
    let known = |floor, bump| Generations { floor, bumps: vec![0, bump] };
    track.learn(track.epoch() + 1, &[envelope::ALL, 7], &known(0, 0));
    assert_eq!(track.judge(9, &[7]), Judged::Ask, "an answer of another epoch is dropped");
    track.learn(track.epoch(), &[envelope::ALL, 7], &known(8, 9));
    assert_eq!(track.judge(9, &[7]), Judged::Valid);
    assert_eq!(track.judge(8, &[7]), Judged::Invalid);
    assert_eq!(track.judge(7, &[]), Judged::Invalid, "below the floor nothing can be judged");
}

#[test]
fn tags_without_end_are_not_remembered_without_end() {
    let mut track = started(10);
    let mut n = 10;
    for tag in 0..MOST_TAGS as u64 * 5 / 4 {
        n += 1;
        let epoch = track.epoch();
        track.bump(n, tag + 7);
        assert!(track.tags.bumps.len() <= MOST_TAGS + 1);
        if track.epoch() != epoch {
            assert_eq!(track.judge(n - 1, &[tag + 7]), Judged::Ask, "what is forgotten is asked for");
            assert_eq!(track.judge(n, &[tag + 7]), Judged::Valid);
        } else {
            assert_eq!(track.judge(n - 1, &[tag + 7]), Judged::Invalid);
        }
    }
    assert_eq!(track.epoch(), 3, "an epoch in so many tags");
    for tag in 1 << 40..(1 << 40) + MOST_TAGS as u64 * 5 / 4 {
        track.learn(track.epoch(), &[envelope::ALL, tag], &Generations { floor: 0, bumps: vec![0, 9] });
        assert!(track.tags.asked.len() <= MOST_TAGS + 2 && track.tags.bumps.len() <= 2 * MOST_TAGS + 2);
        assert_eq!(track.judge(8, &[tag]), Judged::Invalid);
        assert_eq!(track.judge(9, &[tag]), Judged::Valid, "what was asked is known");
    }
}

#[test]
fn tags_beyond_a_gap_are_not_forgotten() {
    let mut track = started(10);
    let epoch = track.epoch();
    let past = MOST_TAGS as u64 + 10;
    // 11 is on its way
    for n in 0..past {
        track.bump(12 + n, 100 + n);
    }
    assert_eq!(track.epoch(), epoch);
    assert_eq!(track.judge(10, &[100]), Judged::Invalid);
    assert_eq!(track.judge(10, &[100 + past - 1]), Judged::Invalid);
}

#[test]
fn what_has_no_tags_stands_from_where_it_is_judged_to() {
    let agree = |track: &Track| {
        for s0 in 0..30 {
            let stands = s0 >= track.stands_from();
            assert_eq!(stands, track.judge(s0, &[]) == Judged::Valid, "s0 {s0} of {track:?}");
        }
    };
    agree(&Track::local());
    agree(&Track::new(D));
    let mut track = started(10);
    agree(&track);
    track.bump(11, 7);
    agree(&track);
    track.learn(track.epoch(), &[7], &Generations { floor: 3, bumps: vec![4] });
    agree(&track);
    track.learn(track.epoch(), &[envelope::ALL], &Generations { floor: 5, bumps: vec![6] });
    agree(&track);
    track.bump(14, envelope::ALL);
    agree(&track);
    track.suspect_all();
    agree(&track);
    track.bump(0, 7);
    agree(&track);
    track.learn(track.epoch(), &[envelope::ALL], &Generations { floor: 20, bumps: vec![6] });
    agree(&track);
}
