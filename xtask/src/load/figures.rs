//! Figures of runs: percentiles, sums, a table and the lines of the CSV file. Pure, so that they can be tested.

use std::fmt::Write as _;
use std::time::Duration;

use super::client::{End, Reply};
use super::server::Who;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    pub model: &'static str,
    pub who: Who,
    pub streams: usize,
    pub round: usize,
    pub max_tokens: usize,
    /// From the first request to the end of the last answer.
    pub seconds: f64,
    /// Processor time of the server meanwhile.
    pub cpu_seconds: f64,
    pub replies: Vec<Reply>,
}

/// Names of [`Run::columns`].
const COLUMNS: &str = "model,server,streams,round,requests,max_tokens,complete,refused,refused_without_retry_after,\
    refused_slowest_ms,failed,incomplete,reset,prompt_tokens,tokens,seconds,tok_s,cpu_seconds,ttft_p50_ms,ttft_p99_ms,\
    inter_token_p50_ms,inter_token_p99_ms";

impl Run {
    fn count(&self, is: impl Fn(&End) -> bool) -> usize {
        self.replies.iter().filter(|r| is(&r.end)).count()
    }

    /// Answers with all their words.
    pub fn complete(&self) -> usize {
        self.count(|end| *end == End::Complete)
    }

    fn tokens(&self) -> usize {
        self.replies.iter().map(|r| r.tokens).sum()
    }

    /// Tokens per second of all streams together.
    pub fn speed(&self) -> f64 {
        self.tokens() as f64 / self.seconds
    }

    /// Times to the first token, sorted.
    pub fn firsts(&self) -> Vec<Duration> {
        sorted(self.replies.iter().filter_map(|r| r.first).collect())
    }

    /// Times between tokens, sorted.
    pub fn gaps(&self) -> Vec<Duration> {
        sorted(self.replies.iter().flat_map(|r| &r.gaps).copied().collect())
    }

    /// The first failure's words.
    pub fn failure(&self) -> Option<&str> {
        self.replies.iter().find_map(|r| match &r.end {
            End::Failed(why) => Some(why.as_str()),
            _ => None,
        })
    }

    fn columns(&self) -> String {
        let refused = |r: &&Reply| matches!(r.end, End::Refused { .. });
        let slowest = self.replies.iter().filter(refused).map(|r| r.took).max();
        let counts = [
            self.replies.len(),
            self.max_tokens,
            self.complete(),
            self.count(|end| matches!(end, End::Refused { .. })),
            self.count(|end| matches!(end, End::Refused { retry_after: false, .. })),
        ];
        let counts = counts.map(|n| n.to_string()).join(",");
        let slowest = slowest.map_or(String::new(), ms);
        let rest = [
            self.count(|end| matches!(end, End::Failed(_))),
            self.count(|end| *end == End::Incomplete),
            self.count(|end| *end == End::Reset),
            self.replies.iter().map(|r| r.prompt_tokens).sum(),
            self.tokens(),
        ];
        let rest = rest.map(|n| n.to_string()).join(",");
        let (firsts, gaps) = (self.firsts(), self.gaps());
        let times = [(&firsts, 0.5), (&firsts, 0.99), (&gaps, 0.5), (&gaps, 0.99)];
        let times =
            times.map(|(of, part)| percentile(of, part).map_or(String::new(), ms)).join(",");
        format!(
            "{},{},{},{},{counts},{slowest},{rest},{:.2},{:.1},{:.2},{times}",
            self.model,
            self.who.name(),
            self.streams,
            self.round,
            self.seconds,
            self.speed(),
            self.cpu_seconds,
        )
    }
}

/// The value below which `part` of the sorted values lie, by the nearest rank.
pub fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn sorted(mut values: Vec<Duration>) -> Vec<Duration> {
    values.sort_unstable();
    values
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// The CSV file: a line per run, with what is the same in all of them first.
pub fn csv(runs: &[Run], constants: &[(&str, String)]) -> String {
    let names: Vec<&str> = constants.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = constants.iter().map(|(_, value)| quote(value)).collect();
    let mut text = format!("{},{COLUMNS}\n", names.join(","));
    for run in runs {
        let _ = writeln!(text, "{},{}", values.join(","), run.columns());
    }
    text
}

/// A table in Markdown: of every model, number of streams and server the run in the middle, by its speed.
pub fn markdown(runs: &[Run]) -> String {
    let mut text = String::from(
        "| model | streams | server | tok/s | tok/s per core | TTFT p50, p99 ms | between tokens p50, p99 ms | complete | other |\n\
        |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut keys: Vec<(&str, usize, Who)> =
        runs.iter().map(|r| (r.model, r.streams, r.who)).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let mut of: Vec<&Run> =
            runs.iter().filter(|r| (r.model, r.streams, r.who) == key).collect();
        of.sort_by(|a, b| a.speed().total_cmp(&b.speed()));
        let Some(run) = of.get(of.len() / 2) else { continue };
        let (firsts, gaps) = (run.firsts(), run.gaps());
        let pair = |times: &[Duration]| {
            let of = |part| percentile(times, part).map_or("-".to_owned(), ms);
            format!("{}, {}", of(0.5), of(0.99))
        };
        let (complete, all) = (run.complete(), run.replies.len());
        let per_core = run.tokens() as f64 / run.cpu_seconds;
        let (model, streams, who) = key;
        let _ = writeln!(
            text,
            "| {model} | {streams} | {} | {:.1} | {per_core:.1} | {} | {} | {complete} | {} |",
            who.name(),
            run.speed(),
            pair(&firsts),
            pair(&gaps),
            all - complete,
        );
    }
    text
}

fn quote(field: &str) -> String {
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(end: End, first: u64, tokens: usize) -> Reply {
        Reply {
            end,
            took: Duration::from_millis(first),
            first: (tokens > 0).then(|| Duration::from_millis(first)),
            gaps: vec![Duration::from_millis(2); tokens.saturating_sub(1)],
            tokens,
            prompt_tokens: 5,
        }
    }

    fn run(who: Who, seconds: f64, replies: Vec<Reply>) -> Run {
        let (model, cpu_seconds) = ("m", 2.0 * seconds);
        Run { model, who, streams: 2, round: 1, max_tokens: 4, seconds, cpu_seconds, replies }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let of = |part| percentile(&times, part).unwrap().as_millis();
        assert_eq!((of(0.0), of(0.5), of(0.99), of(1.0)), (1, 100, 198, 200));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn every_end_is_counted_in_its_column() {
        let refused = |retry_after| End::Refused { status: 429, retry_after };
        let replies = vec![
            reply(End::Complete, 10, 4),
            reply(End::Incomplete, 20, 2),
            reply(refused(true), 30, 0),
            reply(refused(false), 40, 0),
            reply(End::Failed("404".into()), 1, 0),
            reply(End::Reset, 1, 0),
        ];
        let text = csv(&[run(Who::Hob, 2.0, replies)], &[("cpu", "A, B".into())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("cpu,{COLUMNS}"));
        assert_eq!(
            lines[1],
            "\"A, B\",m,hob,2,1,6,4,1,2,1,40.0,1,1,1,30,6,2.00,3.0,4.00,10.0,20.0,2.0,2.0"
        );
        // The quoted field has a comma of its own.
        assert_eq!(lines[1].matches(',').count(), lines[0].matches(',').count() + 1);
    }

    #[test]
    fn the_table_shows_the_run_in_the_middle() {
        let of = |seconds| run(Who::Llama, seconds, vec![reply(End::Complete, 10, 4)]);
        let text = markdown(&[of(1.0), of(4.0), of(2.0)]);
        assert!(
            text.ends_with(
                "| m | 2 | llama-server | 2.0 | 1.0 | 10.0, 10.0 | 2.0, 2.0 | 1 | 0 |\n"
            ),
            "{text}"
        );
    }
}
