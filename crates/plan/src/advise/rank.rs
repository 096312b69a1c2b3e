//! From all answers to a short list: those that no other beats in everything, in the order of a stated preference, without many of one kind.

use super::{Choice, Engine, Limit, Offer, Reason};

/// What a doubling is worth, in doublings of the model: of speed beyond what is needed (three at most), of the price, of the watts.
const SPEED: f64 = 0.35;
const MOST_SPEED: f64 = 3.0;
const PRICE: f64 = 0.35;
const WATTS: f64 = 0.15;
/// What a further answer with the same model, or on the same hardware, loses.
const AGAIN: f64 = 0.8;

/// Whether `a` is at least as good as `b` in everything, and better in something. What is unknown is compared with nothing.
fn beats(a: &Choice, b: &Choice) -> bool {
    let less = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => std::cmp::Ordering::Equal,
    };
    let orders = [
        b.quality.total_cmp(&a.quality),
        b.speed.mid.total_cmp(&a.speed.mid),
        less(a.usd, b.usd),
        less(a.watts, b.watts),
    ];
    orders.iter().all(|o| o.is_le()) && orders.iter().any(|o| o.is_lt())
}

/// The answers that no other beats in quality, speed, price and watts at once.
pub fn pareto(all: Vec<Choice>) -> Vec<Choice> {
    let kept: Vec<bool> = all.iter().map(|b| !all.iter().any(|a| beats(a, b))).collect();
    all.into_iter().zip(kept).filter_map(|(choice, keep)| keep.then_some(choice)).collect()
}

fn preference(choice: &Choice, needed: f64) -> f64 {
    let faster = (choice.speed.mid / needed.max(1.0)).max(1.0).log2().min(MOST_SPEED);
    let dear = choice.usd.map_or(0.0, |usd| (f64::from(usd.max(1)) / 1000.0).log2());
    let hot = choice.watts.map_or(0.0, |w| (f64::from(w.max(1)) / 100.0).log2());
    choice.quality + SPEED * faster - PRICE * dear - WATTS * hot
}

/// At most `most` of them, the preferred first.
pub(super) fn short_list(
    all: Vec<Choice>,
    offers: &[Offer],
    needed: f64,
    most: usize,
) -> Vec<Choice> {
    let mut front = pareto(all);
    let mut list: Vec<Choice> = Vec::new();
    while list.len() < most && !front.is_empty() {
        let again = |choice: &Choice| {
            let same = |other: &&Choice| other.candidate == choice.candidate;
            let there = |other: &&Choice| offers.len() > 1 && other.offer == choice.offer;
            list.iter().filter(same).count() + list.iter().filter(there).count()
        };
        let worth = |choice: &Choice| preference(choice, needed) - AGAIN * again(choice) as f64;
        let worths: Vec<f64> = front.iter().map(worth).collect();
        let best = worths.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((index, _)) = best else { break };
        list.push(front.swap_remove(index));
    }
    give_reasons(&mut list);
    list
}

/// Tells what each is the best in; what all share is no reason.
fn give_reasons(list: &mut [Choice]) {
    type Value = fn(&Choice) -> Option<f64>;
    let values: [(Reason, Value); 5] = [
        (Reason::Quality, |c| Some(c.quality)),
        (Reason::Speed, |c| Some(c.speed.mid)),
        (Reason::Price, |c| c.usd.map(|usd| -f64::from(usd))),
        (Reason::Watts, |c| c.watts.map(|watts| -f64::from(watts))),
        (Reason::Efficiency, |c| c.tokens_per_joule),
    ];
    for (reason, value) in values {
        let known: Vec<f64> = list.iter().filter_map(value).collect();
        let best = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let differ = known.iter().any(|v| *v < best);
        for choice in list.iter_mut().filter(|c| differ && value(c) == Some(best)) {
            choice.reasons.push(reason);
        }
    }
    for choice in list.iter_mut().filter(|c| matches!(c.engine, Engine::Vllm { .. })) {
        choice.reasons.push(Reason::ManyUsers);
    }
}

/// The one that misses a limit by the least.
pub(super) fn nearest(all: Vec<Choice>, limit: Limit) -> Option<Choice> {
    let miss = |choice: &Choice| match limit {
        Limit::Budget => choice.usd.map_or(f64::INFINITY, f64::from),
        Limit::Watts => choice.watts.map_or(f64::INFINITY, f64::from),
        Limit::Speed | Limit::Users => -choice.speed.mid,
        Limit::Portable | Limit::Os | Limit::Context => -preference(choice, 1.0),
    };
    all.into_iter().min_by(|a, b| miss(a).total_cmp(&miss(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Share, Where};
    use crate::speed::Interval;

    fn choice(quality: f64, speed: f64, usd: u32, watts: u32) -> Choice {
        Choice {
            offer: usd as usize,
            candidate: quality as usize,
            recipe: "Q4_K_M",
            engine: Engine::LlamaCpp,
            quality,
            speed: Interval { low: speed, mid: speed, high: speed },
            speed_all: speed,
            memory: 0,
            placement: Where::Cores { limited: None },
            layers: 1,
            cores: Share::default(),
            whole: true,
            context: 8192,
            usd: Some(usd),
            watts: Some(watts),
            tokens_per_joule: Some(speed / f64::from(watts)),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn what_is_beaten_in_everything_goes() {
        let all = vec![
            choice(5.0, 50.0, 2000, 400),
            choice(5.0, 40.0, 2500, 400),
            choice(4.0, 90.0, 2000, 400),
            choice(3.0, 20.0, 500, 60),
        ];
        let kept: Vec<u32> = pareto(all).iter().filter_map(|c| c.usd).collect();
        assert_eq!(kept, [2000, 2000, 500]);
    }

    #[test]
    fn each_of_the_list_is_the_best_in_what_it_says() {
        let all = vec![
            choice(9.0, 20.0, 4000, 600),
            choice(5.0, 90.0, 2000, 400),
            choice(3.0, 20.0, 500, 60),
        ];
        let list = short_list(all, &[], 10.0, 7);
        let of = |usd: u32| list.iter().find(|c| c.usd == Some(usd)).unwrap().reasons.clone();
        assert_eq!(of(4000), [Reason::Quality]);
        assert_eq!(of(2000), [Reason::Speed]);
        assert_eq!(of(500), [Reason::Price, Reason::Watts, Reason::Efficiency]);
        assert_eq!(short_list(vec![choice(1.0, 1.0, 1, 1); 9], &[], 1.0, 7).len(), 7);
    }
}
