//! What runs of the proof showed: kept as JSON under `docs/evidence`, shown in tables of the papers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::caught::{Catcher, Verdict};
use crate::workspace::Workspace;

/// Where the results stand.
const KEPT: &str = "docs/evidence";
/// The runs of histories in the order of the tables: the file's name, and what stands before its table.
const RUNS: &[(&str, &str)] = &[
    ("standalone", "one server"),
    ("sentinel", "a primary, two replicas, three sentinels"),
    ("cluster", "a cluster of three primaries with a replica each"),
];
/// What the name of a run with an outage window ends with.
const OUTAGE: &str = "outage";
/// The model's results.
const MODEL: &str = "model";

/// A paper and what is shown in it between two marks.
type Place = (&'static str, &'static str, fn(&Kept) -> String);
const PLACES: &[Place] = &[
    ("docs/guarantees.md", "model", model),
    ("docs/guarantees.md", "histories", histories),
    ("docs/guarantees.md", "rules", rules),
    ("README.md", "evidence", summary),
];

/// All results that are kept, by name.
pub(crate) struct Kept(BTreeMap<String, Value>);

/// Keeps the results of a run of histories and writes the papers anew. `other` says that the server was a chosen one; a
/// run with an outage window has a place of its own.
///
/// # Errors
/// If they can't be read or written.
pub(crate) fn histories_ran(workspace: &Workspace, topology: &str, other: bool, found: &Value) -> Result<()> {
    let make = found["server"].as_str().and_then(|server| server.split(' ').next()).unwrap_or("unknown");
    let mut name = if other { format!("{topology}-{make}") } else { topology.to_owned() };
    if number(&found["outage_ms"]) > 0 {
        name = format!("{name}-{OUTAGE}");
    }
    keep(workspace, &name, found)
}

/// Keeps what the model of `commit` said and writes the papers anew.
///
/// # Errors
/// If it did not come to its end, or files can't be written.
pub(crate) fn model_ran(workspace: &Workspace, said: &[String], commit: Option<&str>) -> Result<()> {
    let mut found = read_model(said).context("the model did not say its tally")?;
    found["commit"] = json!(commit);
    keep(workspace, MODEL, &found)
}

fn keep(workspace: &Workspace, name: &str, found: &Value) -> Result<()> {
    let dir = workspace.root().join(KEPT);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(found)? + "\n")?;
    let kept = kept(&dir)?;
    PLACES.iter().try_for_each(|place| {
        let paper = workspace.root().join(place.0);
        let old = std::fs::read_to_string(&paper)?;
        Ok(std::fs::write(paper, shown(&old, place, &kept)?)?)
    })
}

fn kept(dir: &Path) -> Result<Kept> {
    let mut kept = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        kept.insert(name, serde_json::from_str(&std::fs::read_to_string(&path)?)?);
    }
    Ok(Kept(kept))
}

/// The paper with what stands between the marks replaced.
fn shown(old: &str, (paper, mark, table): &Place, kept: &Kept) -> Result<String> {
    let (begin, end) = (format!("<!-- {mark}: written by `cargo xtask` -->\n"), format!("<!-- /{mark} -->"));
    let parts = old.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.with_context(|| format!("{paper} has no place for {mark}"))?;
    Ok(format!("{head}{begin}{}{end}{tail}", table(kept)))
}

impl Kept {
    /// The runs of histories: the known ones first, then those over other servers.
    fn runs(&self) -> impl Iterator<Item = (&str, String, &Value)> {
        let known = RUNS.iter().filter_map(|(name, what)| Some((*name, (*what).to_owned(), self.0.get(*name)?)));
        let others = self.0.iter().filter_map(|(name, found)| {
            let (topology, rest) = name.split_once('-')?;
            let what = RUNS.iter().find(|(known, _)| *known == topology)?.1;
            let other = if rest == OUTAGE { "" } else { ", of another make or version" };
            let outage = if rest.ends_with(OUTAGE) { ", served on while it can't be heard" } else { "" };
            Some((name.as_str(), format!("{what}{other}{outage}"), found))
        });
        known.chain(others)
    }
}

/// A line a run.
fn summary(kept: &Kept) -> String {
    let mut out = String::new();
    if let Some(model) = kept.0.get(MODEL) {
        let _ = writeln!(out, "{}\n", tally(model));
    }
    out += "| histories over | D + outage window, ms | histories | reads checked | violations | broken rules caught here |\n\
            |---|---|---|---|---|---|\n";
    for (_, what, found) in kept.runs() {
        let Verdict { mutations, caught, by_model, .. } = Verdict::of(found);
        let caught = match (mutations, by_model) {
            (0, _) => "-".to_owned(),
            (_, 0) => format!("{caught} of {mutations}"),
            _ => format!("{caught} of {mutations}, {by_model} by the model"),
        };
        let [server, histories, reads, violations] =
            ["server", "histories", "reads", "violations"].map(|name| text(&found[name]));
        let bound = match number(&found["outage_ms"]) {
            0 => text(&found["bound_ms"]),
            window => format!("{} + {window}", found["bound_ms"]),
        };
        let _ = writeln!(out, "| {server}: {what} | {bound} | {histories} | {reads} | {violations} | {caught} |");
    }
    out
}

/// The columns of every run's faults, and of those in which servers failed over.
const FAULTS: &[&str] =
    &["fault", "histories", "reads", "oldest value served, ms", "of the bound", "loads a write, at most", "violations"];
const FAILOVERS: &[&str] = &[
    "failovers",
    "longest, ms",
    "lost an invalidation",
    "stale until, ms",
    "reads judged in full",
    "seconds judged in full",
];

fn histories(kept: &Kept) -> String {
    let mut out = summary(kept).lines().skip_while(|line| !line.starts_with('|')).collect::<Vec<_>>().join("\n") + "\n";
    for (_, what, found) in kept.runs() {
        let bound = (number(&found["bound_ms"]) + number(&found["outage_ms"])).max(1);
        let failovers = rows(found, "faults").iter().any(|row| number(&row["takeovers"]) > 0);
        let _ = write!(
            out,
            "\n**{}: {what}.** {} acknowledged writes{}.\n\n",
            text(&found["server"]),
            found["acknowledged"],
            of(found)
        );
        let mut columns = FAULTS.to_vec();
        columns.extend(FAILOVERS.iter().filter(|_| failovers));
        let _ = write!(out, "| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
        for row in rows(found, "faults") {
            let [fault, histories, reads, worst, violations, takeovers, took, lossy, window] =
                ["fault", "histories", "reads", "worst_ms", "violations", "takeovers", "took_ms", "lossy", "window_ms"]
                    .map(|name| text(&row[name]));
            let share = number(&row["worst_ms"]) * 100 / bound;
            let loads = row["loads_most"].as_f64().map_or_else(|| "-".to_owned(), |most| format!("{most:.1}"));
            let _ = write!(out, "| {fault} | {histories} | {reads} | {worst} | {share} % | {loads} | {violations} |");
            out += &match (failovers, takeovers.as_str()) {
                (false, _) => "\n".to_owned(),
                (true, "0") => " - | - | - | - | all | all |\n".to_owned(),
                (true, _) => format!(" {takeovers} | {took} | {lossy} | {window} | {} |\n", judged(row)),
            };
        }
    }
    out
}

/// What no failover could have excused: reads and seconds.
fn judged(row: &Value) -> String {
    match (&row["judged_reads"], row["judged_s"].as_f64(), row["lasted_s"].as_f64()) {
        (Value::Number(reads), Some(judged), Some(lasted)) => format!("{reads} | {judged:.1} of {lasted:.1}"),
        // a run of before they were counted
        _ => "- | -".to_owned(),
    }
}

/// Every rule, and where its breakage shows.
fn rules(kept: &Kept) -> String {
    let runs: Vec<_> = kept.runs().filter(|(_, _, found)| !rows(found, "mutations").is_empty()).collect();
    let mut out = "| broken rule | model |".to_owned();
    runs.iter().for_each(|(name, ..)| {
        let _ = write!(out, " histories: {name} |");
    });
    out += "\n|---|---|";
    out += &"---|".repeat(runs.len());
    out.push('\n');
    let model = kept.0.get(MODEL).map(|model| rows(model, "rules")).unwrap_or_default();
    for rule in model {
        let name = text(&rule["rule"]);
        let _ = write!(out, "| `{name}` | {} in {} steps |", text(&rule["property"]), rule["steps"]);
        for (_, _, found) in &runs {
            match rows(found, "mutations").iter().find(|row| row["rule"] == rule["rule"]) {
                Some(row) => {
                    let by = match Catcher::of(row) {
                        Some(Catcher::Histories) => format!(", {}", text(&row["fault"])),
                        Some(Catcher::Model) => ": by the model".to_owned(),
                        None => ": not caught".to_owned(),
                    };
                    let _ = write!(out, " {} of {}{by} |", row["caught"], row["histories"]);
                }
                None => out += " |",
            }
        }
        out.push('\n');
    }
    out
}

fn model(kept: &Kept) -> String {
    kept.0.get(MODEL).map_or_else(String::new, |model| tally(model) + "\n")
}

fn tally(model: &Value) -> String {
    let kind = if model["nightly"] == true { "nightly" } else { "quick" };
    format!(
        "`cargo xtask model`, {kind} form: {} unique states in {} configurations, {} violations, {} of {} broken rules caught{}.",
        thousands(number(&model["states"])),
        model["configurations"],
        model["violations"],
        model["caught"],
        model["mutations"],
        of(model),
    )
}

/// The commit that a run was of, if it said so.
fn of(found: &Value) -> String {
    found["commit"].as_str().map_or_else(String::new, |commit| format!(", at `{commit}`"))
}

/// Takes the figures from what the model printed.
fn read_model(said: &[String]) -> Option<Value> {
    let clean = |line: &&String| line.trim_end().ends_with(" clean");
    let rules: Vec<Value> = said
        .iter()
        .filter_map(|line| {
            // NoCas   P1 far   in  9 steps,   2436 states of base
            let (head, tail) = line.split_once(" steps,")?;
            let (head, steps) = head.rsplit_once(" in ")?;
            let (rule, property) = head.trim().split_once(' ')?;
            let config = tail.rsplit_once(" states of ")?.1.trim();
            let steps: u64 = steps.trim().parse().ok()?;
            Some(json!({ "rule": rule, "property": property.trim(), "steps": steps, "config": config }))
        })
        .collect();
    let last = said.iter().rfind(|line| line.starts_with("states="))?;
    let figure =
        |name: &str| last.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok());
    Some(json!({
        "nightly": said.iter().any(|line| line.starts_with("long ")),
        "configurations": said.iter().filter(clean).count(),
        "states": figure("states")?,
        "violations": figure("violations")?,
        "mutations": figure("mutations")?,
        "caught": figure("caught")?,
        "rules": rules,
    }))
}

fn rows<'a>(found: &'a Value, name: &str) -> &'a [Value] {
    found[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_papers_show_what_is_kept() {
        let workspace = Workspace::find().unwrap();
        let kept = kept(&workspace.root().join(KEPT)).unwrap();
        for place in PLACES {
            let paper = workspace.read(place.0).unwrap();
            assert!(paper == shown(&paper, place, &kept).unwrap(), "{} was edited by hand", place.0);
        }
        assert!(kept.0.values().all(|found| found["violations"] == 0), "the evidence shows a violation");
    }

    /// The rules that can be broken, as the coherence core lists them.
    fn all_rules(workspace: &Workspace) -> BTreeSet<String> {
        let core = workspace.read("cache-tiered/src/coherence/mutate.rs").unwrap();
        let (_, list) = core.split_once("pub const ALL: &[Self] = &[").expect("the list of all mutations");
        let (list, _) = list.split_once("];").expect("its end");
        list.split(',').filter_map(|name| name.trim().strip_prefix("Self::")).map(str::to_owned).collect()
    }

    fn named(found: &Value, list: &str) -> BTreeSet<String> {
        rows(found, list).iter().map(|row| text(&row["rule"])).collect()
    }

    #[test]
    fn histories_broke_no_rule_that_is_gone() {
        let workspace = Workspace::find().unwrap();
        let all = all_rules(&workspace);
        assert!(all.len() > 50, "{all:?}");
        for (run, _, found) in kept(&workspace.root().join(KEPT)).unwrap().runs() {
            assert!(named(found, "mutations").is_subset(&all), "{run} broke rules that are gone: run it again");
        }
    }

    #[test]
    fn the_model_broke_every_rule_that_there_is() {
        let workspace = Workspace::find().unwrap();
        let kept = kept(&workspace.root().join(KEPT)).unwrap();
        let (broke, all) = (named(&kept.0[MODEL], "rules"), all_rules(&workspace));
        assert!(
            broke == all,
            "run `cargo xtask model --nightly --write`: it has not broken {:?}, and has broken {:?}, which is gone",
            all.difference(&broke).collect::<Vec<_>>(),
            broke.difference(&all).collect::<Vec<_>>(),
        );
    }

    #[test]
    fn the_models_figures_are_read() {
        let said = [
            "base                      129285 states     0.5 s  clean",
            "long                     2830562 states    15.7 s  clean",
            "vacuity-tags               12031 states            fails as it must: P5 tags in 12 steps",
            "NoCas                P1 far         in  9 steps,     2436 states of base",
            "states=77380844 violations=0 mutations=40 caught=40",
        ]
        .map(str::to_owned);
        let model = read_model(&said).unwrap();
        assert_eq!((&model["configurations"], &model["nightly"]), (&json!(2), &json!(true)));
        assert_eq!(model["rules"], json!([{"rule": "NoCas", "property": "P1 far", "steps": 9, "config": "base"}]));
        assert!(tally(&model).contains("77,380,844 unique states in 2 configurations, 0 violations, 40 of 40"));
        assert!(read_model(&said[..4]).is_none());
    }

    #[test]
    fn a_rule_that_histories_miss_is_left_to_the_model() {
        let rule = |name: &str| json!({ "rule": name, "property": "P3 bound", "steps": 9, "config": "base" });
        let mutation =
            |name: &str, caught: u64| json!({"rule": name, "fault": "none", "histories": 10, "caught": caught});
        let mut found = json!({
            "server": "redis 7.0.15 cluster", "commit": "0123abc", "bound_ms": 600, "histories": 2, "reads": 10, "acknowledged": 3, "violations": 0,
            "faults": [{"fault": "failover", "histories": 2, "reads": 10, "worst_ms": 300, "violations": 0,
                "takeovers": 4, "took_ms": 2500, "lossy": 1, "stale": 7, "window_ms": 2900, "judged_reads": 8, "judged_s": 20.5,
                "lasted_s": 30.0, "loads_most": 1.5}],
            "mutations": [mutation("NoCas", 9), mutation("NoTrust", 6), mutation("NoPost", 2)],
        });
        found["mutations"][1]["model"] = json!(true);
        let model = json!({ "rules": [rule("NoCas"), rule("NoTrust"), rule("NoPoison"), rule("NoPost")] });
        let mut window = found.clone();
        window["outage_ms"] = json!(1400);
        let kept = Kept(
            [("cluster".to_owned(), found), ("cluster-outage".to_owned(), window), (MODEL.to_owned(), model)].into(),
        );
        let rules = rules(&kept);
        assert!(rules.contains("| `NoCas` | P3 bound in 9 steps | 9 of 10, none |"), "{rules}");
        assert!(rules.contains("| `NoTrust` | P3 bound in 9 steps | 6 of 10: by the model |"), "{rules}");
        assert!(rules.contains("| `NoPost` | P3 bound in 9 steps | 2 of 10: not caught |"), "{rules}");
        assert!(rules.contains("| `NoPoison` | P3 bound in 9 steps | |"), "{rules}");
        let histories = histories(&kept);
        for share in ["50", "15"] {
            let row =
                format!("| failover | 2 | 10 | 300 | {share} % | 1.5 | 0 | 4 | 2500 | 1 | 2900 | 8 | 20.5 of 30.0 |\n");
            assert!(histories.contains(&row), "{histories}");
        }
        for table in
            [histories.as_str(), &rules].iter().flat_map(|text| text.split("\n\n")).filter(|t| t.starts_with('|'))
        {
            let widths: BTreeSet<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            assert_eq!(widths.len(), 1, "its rows differ in columns: {table}");
        }
        assert!(histories.contains("replica each.** 3 acknowledged writes, at `0123abc`.\n"), "{histories}");
        let summary = summary(&kept);
        assert!(summary.contains("replica each | 600 | 2 | 10 | 0 | 2 of 3, 1 by the model |\n"), "{summary}");
        assert!(summary.contains("can't be heard | 600 + 1400 | 2 | 10 | 0 | 2 of 3, 1 by the model |\n"), "{summary}");
    }
}
