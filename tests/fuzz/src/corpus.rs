//! The corpus that is kept: a text file a target, a line of hex an input.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Longer inputs are not kept: what they reach, short ones reach too.
const LONGEST: usize = 512;
/// The most inputs that are kept for a target.
const MOST: usize = 400;

fn file(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.txt"))
}

/// The kept inputs of a target; none if there is no file yet.
///
/// # Errors
/// If a line is no hex.
pub fn kept(target: &str) -> Result<Vec<Vec<u8>>> {
    let Ok(text) = fs::read_to_string(file(target)) else { return Ok(Vec::new()) };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| parse(line).with_context(|| format!("the corpus of {target} holds a line that is no hex")))
        .collect()
}

fn parse(line: &str) -> Option<Vec<u8>> {
    let digits = line.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

/// Writes the seeds and the kept inputs of a target into `dir`, where the fuzzer reads them.
///
/// # Errors
/// Of the file system.
pub fn unpack(target: &crate::Target, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (i, input) in (target.seeds)().iter().chain(&kept(target.name)?).enumerate() {
        fs::write(dir.join(format!("kept-{i}")), input)?;
    }
    Ok(())
}

/// Keeps the inputs in `dir`, the shortest first.
///
/// # Errors
/// Of the file system.
pub fn pack(target: &str, dir: &Path) -> Result<usize> {
    let files = fs::read_dir(dir)?.map(|entry| Ok(fs::read(entry?.path())?));
    let mut inputs = files.collect::<Result<Vec<Vec<u8>>>>()?;
    inputs.retain(|input| input.len() <= LONGEST);
    inputs.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    inputs.truncate(MOST);
    let lines = inputs.iter().map(|input| input.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    fs::write(file(target), lines.collect::<String>())?;
    Ok(inputs.len())
}
