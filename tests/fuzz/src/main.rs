//! One target under libFuzzer, which brings `main` with it. `STRATA_FUZZ` names the target; `cargo xtask fuzz` sets it.
//!
//! In an ordinary build: a helper of that command, which writes the corpus out and keeps it.

#![cfg_attr(strata_fuzz, no_main)]

#[cfg(strata_fuzz)]
mod engine {
    use std::sync::LazyLock;

    use libfuzzer_sys::fuzz_target;

    static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        let name = std::env::var("STRATA_FUZZ").unwrap_or_default();
        strata_fuzz::target(&name).unwrap_or_else(|| panic!("STRATA_FUZZ names no target: {name:?}")).run
    });

    fuzz_target!(|input: &[u8]| (*RUN)(input));
}

#[cfg(not(strata_fuzz))]
fn main() -> anyhow::Result<()> {
    use anyhow::Context;
    use std::path::Path;

    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let target = |name: &str| strata_fuzz::target(name).with_context(|| format!("there is no target {name}"));
    match words[..] {
        ["targets"] => strata_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name)),
        ["unpack", name, dir] => strata_fuzz::corpus::unpack(target(name)?, Path::new(dir))?,
        ["pack", name, dir] => println!("{}", strata_fuzz::corpus::pack(target(name)?.name, Path::new(dir))?),
        _ => anyhow::bail!("targets, unpack TARGET DIR, or pack TARGET DIR"),
    }
    Ok(())
}
