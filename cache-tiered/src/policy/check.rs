//! What can be wrong in a policy.

use std::time::Duration;

use cache_core::{Error, ErrorKind, MAX_TTL};

use super::{Policy, Refresh};

/// What a policy has to agree with: the tiers of its cache. What is for a tier that isn't there is no mistake: a program
/// may leave tiers out and stay as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// The longest ttl of the namespace.
    pub(crate) max_ttl: Duration,
    /// The longest near ttl, where nothing is heard of changes.
    pub(crate) near_cap: Option<Duration>,
    /// The bytes that the near store holds.
    pub(crate) near_budget: Option<u64>,
}

impl Policy {
    /// Every mistake in it, as sentences.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_spans(&mut found);
        self.check_fail_safe(&mut found);
        self.check_shares(&mut found);
        if self.sliding.is_some() && self.refresh.is_some() {
            let text = "sliding and refresh_ahead exclude each other: what is read is never near its end";
            found.push(text.to_owned());
        }
        if let Some(backoff) = self.backoff
            && backoff.least > backoff.most
        {
            found.push(format!("the shortest backoff {:?} is over the longest {:?}", backoff.least, backoff.most));
        }
        found
    }

    fn check_spans(&self, found: &mut Vec<String>) {
        let mut spans =
            vec![("ttl", self.ttl), ("negative_ttl", self.negative_ttl), ("hard_timeout", self.timeouts.hard)];
        if let Some(fail_safe) = self.fail_safe {
            spans.extend([("fail_safe", fail_safe.span), ("the throttle of fail_safe", fail_safe.throttle)]);
        }
        if let Some(backoff) = self.backoff {
            spans.extend([("the shortest backoff", backoff.least), ("the longest backoff", backoff.most)]);
        }
        for (name, span) in spans {
            // a store counts in them, and a shorter time would be lengthened
            if span < Duration::from_millis(1) || span > MAX_TTL {
                found.push(format!("{name} is {span:?}; it must be at least a millisecond and at most ten years"));
            }
        }
        if let Some(near) = self.near_ttl {
            if near.is_zero() {
                found.push("near_ttl is zero; leave the near tier out instead".to_owned());
            } else if near < Duration::from_millis(1) {
                found.push(format!("near_ttl is {near:?}; a millisecond is the least"));
            }
            if near > self.ttl {
                found.push(format!("near_ttl {near:?} is longer than ttl {:?}", self.ttl));
            }
        }
    }

    fn check_fail_safe(&self, found: &mut Vec<String>) {
        if let Some(soft) = self.timeouts.soft {
            if soft.is_zero() {
                found.push("soft_timeout is zero; a millisecond is the least".to_owned());
            }
            if self.fail_safe.is_none() {
                found.push("soft_timeout needs fail_safe: without it there is nothing to serve meanwhile".to_owned());
            }
            if soft >= self.timeouts.hard {
                found.push(format!("soft_timeout {soft:?} is not below hard_timeout {:?}", self.timeouts.hard));
            }
        }
        if let Some(fail_safe) = self.fail_safe
            && fail_safe.throttle > fail_safe.span
        {
            let (throttle, span) = (fail_safe.throttle, fail_safe.span);
            found.push(format!("the throttle {throttle:?} is longer than the span of fail_safe {span:?}"));
        }
    }

    fn check_shares(&self, found: &mut Vec<String>) {
        if !(0.0..1.0).contains(&self.jitter) {
            found.push(format!("jitter is {}; it must be at least 0 and below 1", self.jitter));
        }
        let open = |share: f64| share > 0.0 && share < 1.0;
        match self.refresh {
            Some(Refresh::After(share)) if !open(share) => {
                found.push(format!("refresh_ahead is {share}; it must be over 0 and below 1"));
            }
            Some(Refresh::Early(beta)) if !(beta > 0.0 && beta <= 1000.0) => {
                found.push(format!("the factor of refresh_ahead is {beta}; it must be over 0 and at most 1000"));
            }
            _ => {}
        }
        if let Some(sliding) = self.sliding
            && !open(sliding.after)
        {
            found.push(format!("the share of sliding is {}; it must be over 0 and below 1", sliding.after));
        }
    }

    /// As [`mistakes`](Self::mistakes), for the tiers that it is for.
    pub(crate) fn mistakes_among(&self, around: Around) -> Vec<String> {
        let Around { max_ttl, near_cap, near_budget } = around;
        let mut found = self.mistakes();
        if let Some((near, cap)) = self.near_ttl.zip(near_cap).filter(|(near, cap)| near > cap) {
            found
                .push(format!("near_ttl {near:?} is longer than {cap:?}, the cap that incoherent was given; lower it"));
        }
        if let Some((most, budget)) = self.near_max.zip(near_budget).filter(|(most, budget)| most > budget) {
            found.push(format!("near_max is {most} bytes, and the whole near store holds {budget}; lower it"));
        }
        if self.ttl > max_ttl || self.negative_ttl > max_ttl {
            found.push(format!("a ttl is longer than {max_ttl:?}, the namespace's max_ttl; raise it in every process"));
        } else if self.ttl.saturating_add(self.grace()) > max_ttl {
            let text = "ttl and fail_safe together are longer than";
            found.push(format!("{text} {max_ttl:?}, the namespace's max_ttl; raise it in every process"));
        }
        found
    }
}

/// One error for all mistakes of a builder.
pub(crate) fn all_mistakes(found: &[String]) -> Result<(), Error> {
    if found.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Config, found.join("; "))) }
}
