//! The table at the end: medians of the samples that criterion took.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many samples are measured.
pub(super) const SAMPLES: usize = 20;

struct Note {
    recipe: &'static str,
    tasks: u64,
    contender: &'static str,
    /// Of one call.
    nanos: f64,
}

/// Each sample, in order.
static NOTES: Mutex<Vec<Note>> = Mutex::new(Vec::new());

/// Takes note of a sample: `n` calls, in `tasks` tasks, took so long.
#[expect(clippy::cast_precision_loss, reason = "a count of calls")]
pub(super) fn note(recipe: &'static str, tasks: u64, contender: &'static str, n: u64, took: Duration) {
    let calls = n.div_ceil(tasks) * tasks;
    let nanos = took.as_secs_f64() * 1e9 / calls as f64;
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(Note { recipe, tasks, contender, nanos });
}

/// The median of a cell's last samples: those before are its warm-up.
fn median(notes: &[Note], recipe: &str, tasks: u64, contender: &str) -> Option<f64> {
    let here = |note: &&Note| (note.recipe, note.tasks, note.contender) == (recipe, tasks, contender);
    let mut samples: Vec<f64> = notes.iter().rev().filter(here).take(SAMPLES).map(|note| note.nanos).collect();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// Prints a row a recipe.
pub(super) fn print() {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut recipes: Vec<&str> = Vec::new();
    for note in notes.iter() {
        if !recipes.contains(&note.recipe) {
            recipes.push(note.recipe);
        }
    }
    println!("\n| recipe | in the process | floor, 1 task | on Redis | time | floor, 64 tasks | on Redis | rate |");
    println!("|---|---|---|---|---|---|---|---|");
    for recipe in recipes {
        let cell = |tasks, contender| median(&notes, recipe, tasks, contender);
        let micros = |nanos: Option<f64>| nanos.map_or_else(String::new, |nanos| format!("{:.1} µs", nanos / 1e3));
        let rate = |nanos: Option<f64>| nanos.map_or_else(String::new, |nanos| format!("{:.0} k/s", 1e6 / nanos));
        let ratio =
            |a: Option<f64>, b: Option<f64>| a.zip(b).map_or_else(String::new, |(a, b)| format!("{:.2}", a / b));
        let (one, ours, many, ours_many) = (cell(1, "floor"), cell(1, "Redis"), cell(64, "floor"), cell(64, "Redis"));
        let in_process = micros(cell(1, "Memory"));
        let alone = [micros(one), micros(ours), ratio(ours, one)].join(" | ");
        let busy = [rate(many), rate(ours_many), ratio(many, ours_many)].join(" | ");
        println!("| {recipe} | {in_process} | {alone} | {busy} |");
    }
    println!("\ntime and rate: ours divided by the floor's, in time for one task, in calls a second for 64.");
}
