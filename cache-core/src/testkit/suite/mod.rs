//! The contract as a table of cases, a file a subject.

mod atomic;
mod batch;
mod bus;
mod bus_changes;
mod bus_swap;
mod bus_tags;

mod frames;
mod leases;
mod leases_many;
mod leases_stale;
mod leases_touch;
mod leases_wait;
mod limits;
mod local;
mod races;
mod sweep;
mod ttl;
mod values;

use super::Case;

const TABLES: &[&[Case]] = &[
    values::CASES,
    limits::CASES,
    ttl::CASES,
    batch::CASES,
    races::CASES,
    leases::CASES,
    leases_many::CASES,
    leases_stale::CASES,
    leases_touch::CASES,
    leases_wait::CASES,
    leases_wait::messages::CASES,
    bus::CASES,
    bus::messages::CASES,
    bus_changes::CASES,
    bus_swap::CASES,
    bus_swap::messages::CASES,
    bus_changes::messages::CASES,
    bus_tags::CASES,
    atomic::CASES,
    sweep::CASES,
    local::CASES,
];

const COUNT: usize = {
    let (mut count, mut i) = (0, 0);
    while i < TABLES.len() {
        count += TABLES[i].len();
        i += 1;
    }
    count
};

const ALL: [Case; COUNT] = {
    let mut all = [TABLES[0][0]; COUNT];
    let (mut at, mut i) = (0, 0);
    while i < TABLES.len() {
        let mut j = 0;
        while j < TABLES[i].len() {
            all[at] = TABLES[i][j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    all
};

/// Every case of the suite.
pub static CASES: &[Case] = &ALL;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CASES;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_sentence() {
        let mut paths = HashSet::new();
        for case in CASES {
            assert!(paths.insert(case.path()), "{} stands twice", case.path());
            assert!(case.promise.ends_with('.') && !case.promise.starts_with(char::is_lowercase), "{}", case.path());
            assert!(!case.needs.is_empty(), "{}", case.path());
        }
    }
}
