//! What is fuzzed: each decoder of bytes or text from outside, with what must hold of its answer.
//!
//! `cargo xtask fuzz` runs them under libFuzzer. An ordinary build plays the kept corpus again, in a test.

mod bus;
mod codec;
pub mod corpus;
mod envelope;
mod names;
mod packing;
mod url;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its corpus.
    pub name: &'static str,
    /// Decodes an input; panics if what came of it is wrong.
    pub run: fn(&[u8]),
    /// Inputs that the fuzzer starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "header", run: envelope::header, seeds: envelope::headers },
    Target { name: "frame", run: envelope::frame, seeds: envelope::frames },
    Target { name: "damage", run: envelope::damage, seeds: envelope::damages },
    Target { name: "message", run: bus::message, seeds: bus::messages },
    Target { name: "codec", run: codec::decode, seeds: codec::encoded },
    Target { name: "packing", run: packing::unpack, seeds: packing::packed },
    Target { name: "key_list", run: names::key_list, seeds: names::key_lists },
    Target { name: "session", run: names::session, seeds: names::sessions },
    Target { name: "url", run: url::url, seeds: url::urls },
    Target { name: "redis_url", run: url::redis, seeds: url::redis_urls },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_the_kept_corpus_hold() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            let kept = corpus::kept(target.name).unwrap();
            assert!(!seeds.is_empty() && !kept.is_empty(), "{} has nothing to start from", target.name);
            for input in seeds.iter().chain(&kept) {
                (target.run)(input);
            }
        }
    }
}
