//! From runs to a table: medians, the better setting of the peer for each test, ratios; as Markdown for
//! people and as CSV for `bench/`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::runs::{Contender, Test};

/// The speeds of all rounds, by model, test and contender.
#[derive(Default)]
pub struct Table {
    runs: BTreeMap<(String, Test), BTreeMap<Contender, Vec<f64>>>,
}

impl Table {
    /// Adds one round's speed, in tokens per second.
    pub fn add(&mut self, model: &str, test: Test, who: Contender, tok_s: f64) {
        let row = self.runs.entry((model.to_owned(), test)).or_default();
        row.entry(who).or_default().push(tok_s);
    }

    /// The table as Markdown: medians and hob's ratio to the better setting of the peer.
    pub fn markdown(&self) -> String {
        let mut out = String::from(
            "| model | test | llama.cpp --repack 0 | --repack 1 | hob | hob / best |\n|---|---|---|---|---|---|\n",
        );
        for ((model, test), by_contender) in &self.runs {
            let median = |who| by_contender.get(&who).and_then(|runs| median(runs));
            let cell = |value: Option<f64>, digits| {
                value.map_or("-".to_owned(), |v| format!("{v:.digits$}"))
            };
            let hob = median(Contender::Hob);
            let ratio = hob.zip(best_peer(by_contender)).map(|(hob, peer)| hob / peer);
            let _ = writeln!(
                out,
                "| {model} | {} | {} | {} | {} | {} |",
                test.name(),
                cell(median(Contender::Peer { repack: false }), 1),
                cell(median(Contender::Peer { repack: true }), 1),
                cell(hob, 1),
                cell(ratio, 2)
            );
        }
        out
    }

    /// The table as CSV, a line per contender; each line begins with `constants`, columns of its own.
    pub fn csv(&self, constants: &[(&str, String)]) -> String {
        let names = constants.iter().map(|(name, _)| *name);
        let columns = ["model", "test", "contender", "tok_s", "ratio_to_best_peer", "rounds"];
        let mut out = names.chain(columns).collect::<Vec<_>>().join(",") + "\n";
        let start: String = constants.iter().map(|(_, value)| quote(value) + ",").collect();
        for ((model, test), by_contender) in &self.runs {
            let best = best_peer(by_contender);
            for (who, runs) in by_contender {
                let Some(median) = median(runs) else { continue };
                let ratio = best.map_or(String::new(), |best| format!("{:.3}", median / best));
                let runs: Vec<String> = runs.iter().map(|r| format!("{r:.2}")).collect();
                let _ = writeln!(
                    out,
                    "{start}{},{},{},{median:.2},{ratio},{}",
                    quote(model),
                    test.name(),
                    quote(who.name()),
                    runs.join(";")
                );
            }
        }
        out
    }
}

/// The peer's better setting for one test, by its median.
fn best_peer(by_contender: &BTreeMap<Contender, Vec<f64>>) -> Option<f64> {
    let peers = by_contender.iter().filter(|(who, _)| matches!(who, Contender::Peer { .. }));
    peers.filter_map(|(_, runs)| median(runs)).max_by(f64::total_cmp)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((lower + upper) / 2.0)
}

fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn the_better_setting_of_the_peer_is_the_peer() {
        let mut table = Table::default();
        let plain = Contender::Peer { repack: false };
        let repacked = Contender::Peer { repack: true };
        for (who, runs) in [(plain, [290.0, 280.0, 10.0]), (repacked, [205.0, 999.0, 200.0])] {
            runs.into_iter().for_each(|r| table.add("Q4_K_M", Test::Prefill, who, r));
        }
        for r in [308.0, 307.0, 309.0] {
            table.add("Q4_K_M", Test::Prefill, Contender::Hob, r);
        }
        let row = "| Q4_K_M | prefill | 280.0 | 205.0 | 308.0 | 1.10 |\n";
        assert!(table.markdown().ends_with(row), "{}", table.markdown());

        let csv = table.csv(&[("date", "2026-01-02".into()), ("cpu", "A, B".into())]);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "date,cpu,model,test,contender,tok_s,ratio_to_best_peer,rounds");
        assert_eq!(
            lines[2],
            "2026-01-02,\"A, B\",Q4_K_M,prefill,llama.cpp --repack 1,205.00,0.732,205.00;999.00;200.00"
        );
        assert_eq!(
            lines[3],
            "2026-01-02,\"A, B\",Q4_K_M,prefill,hob,308.00,1.100,308.00;307.00;309.00"
        );
    }

    #[test]
    fn a_peer_alone_has_no_ratio_of_hob() {
        let mut table = Table::default();
        table.add("Q8_0", Test::Decode, Contender::Peer { repack: true }, 35.0);
        assert!(table.markdown().ends_with("| Q8_0 | decode | - | 35.0 | - | - |\n"));
    }
}
