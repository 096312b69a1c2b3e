//! From scores of single predictions to the figures that are reported. Errors are standard errors of the mean,
//! carried through exp to first order; quantiles interpolate between neighbours. All as `llama-perplexity` has them.

use super::rows::{Score, Versus};

/// A figure and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error; 0 for a single observation.
    pub error: f64,
}

/// A mean and the quantiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// Mean.
    pub mean: Estimate,
    /// Half lies below.
    pub median: f64,
    /// 90% lies below.
    pub p90: f64,
    /// 99% lies below.
    pub p99: f64,
    /// 99.9% lies below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// How far a model is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Perplexity of the reference on the same predictions.
    pub base_perplexity: Estimate,
    /// Perplexity of the model over that of the reference.
    pub perplexity_ratio: Estimate,
    /// Kullback-Leibler divergence of the model from the reference, in nats per prediction.
    pub kl: Distribution,
    /// Part of the predictions whose likeliest token is the reference's, 0 to 1.
    pub top1_agreement: Estimate,
    /// Change of the probability of the text's token, -1 to 1.
    pub delta_p: Estimate,
    /// Root mean square of that change.
    pub delta_p_rms: f64,
}

/// The result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Predictions scored.
    pub tokens: usize,
    /// Tokens of a chunk.
    pub context: usize,
    /// Chunks.
    pub chunks: usize,
    /// Exp of the mean negative log-likelihood of the text's tokens.
    pub perplexity: Estimate,
    /// Against the reference, when there was one.
    pub divergence: Option<Divergence>,
}

/// All scores so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    nll: Vec<f64>,
    versus: Vec<Versus>,
}

impl Totals {
    pub(crate) fn add(&mut self, scores: Vec<Score>) {
        for score in scores {
            self.nll.push(score.nll);
            self.versus.extend(score.versus);
        }
    }

    pub(crate) fn perplexity(&self) -> Option<f64> {
        (!self.nll.is_empty()).then(|| mean(&self.nll).value.exp())
    }

    pub(crate) fn report(&self, context: usize, chunks: usize) -> Report {
        Report {
            tokens: self.nll.len(),
            context,
            chunks,
            perplexity: exp(mean(&self.nll)),
            divergence: (!self.versus.is_empty()).then(|| self.divergence()),
        }
    }

    fn divergence(&self) -> Divergence {
        let of = |f: fn(&Versus) -> f64| self.versus.iter().map(f).collect::<Vec<f64>>();
        let base = of(|v| v.nll);
        let gaps: Vec<f64> = self.nll.iter().zip(&base).map(|(q, b)| q - b).collect();
        let agreed = self.versus.iter().filter(|v| v.same_top).count() as f64;
        let (n, delta) = (self.versus.len() as f64, of(|v| v.delta_p));
        let agreement = agreed / n;
        Divergence {
            base_perplexity: exp(mean(&base)),
            perplexity_ratio: exp(mean(&gaps)),
            kl: distribution(of(|v| v.kl)),
            top1_agreement: Estimate {
                value: agreement,
                error: (agreement * (1.0 - agreement) / (n - 1.0).max(1.0)).sqrt(),
            },
            delta_p: mean(&delta),
            delta_p_rms: (delta.iter().map(|d| d * d).sum::<f64>() / n).sqrt(),
        }
    }
}

fn mean(values: &[f64]) -> Estimate {
    let n = values.len().max(1) as f64;
    let value = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - value) * (v - value)).sum::<f64>() / n;
    Estimate { value, error: (variance / (n - 1.0).max(1.0)).sqrt() }
}

fn exp(log: Estimate) -> Estimate {
    let value = log.value.exp();
    Estimate { value, error: value * log.error }
}

fn distribution(mut values: Vec<f64>) -> Distribution {
    let mean = mean(&values);
    values.sort_by(f64::total_cmp);
    let at = |fraction: f64| quantile(&values, fraction);
    Distribution {
        mean,
        median: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
    }
}

/// Of sorted values; 0 of none.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let place = fraction * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (place as usize, place.fract());
    let value = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    (1.0 - part) * value(below) + part * value(below + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn quantiles_interpolate() {
        let values = [1.0, 2.0, 3.0, 5.0];
        assert!(near(quantile(&values, 0.5), 2.5));
        assert!(near(quantile(&values, 0.99), 3.0 + 0.97 * 2.0));
        assert!(near(quantile(&values, 1.0), 5.0));
        assert!(near(quantile(&[7.0], 0.9), 7.0));
        assert!(near(quantile(&[], 0.9), 0.0));
    }

    #[test]
    fn errors_are_those_of_the_mean() {
        // Mean 2.5, biased variance 1.25, over n - 1.
        let e = mean(&[1.0, 2.0, 3.0, 4.0]);
        assert!(near(e.value, 2.5) && near(e.error, (1.25f64 / 3.0).sqrt()));
        assert!(near(mean(&[3.0]).error, 0.0));
    }

    #[test]
    fn the_error_of_a_ratio_knows_that_both_saw_the_same_text() {
        let versus = |nll: f64, same_top| Versus { nll, kl: 0.25, same_top, delta_p: -0.5 };
        let scores = [(1.0, 0.5), (4.0, 3.5), (2.0, 1.5), (9.0, 8.5)];
        let mut totals = Totals::default();
        for (i, (nll, base)) in scores.into_iter().enumerate() {
            totals.add(vec![Score { nll, versus: Some(versus(base, i > 0)) }]);
        }
        let report = totals.report(8, 2);
        let d = report.divergence.unwrap();
        assert!(near(report.perplexity.value, 4f64.exp()) && report.perplexity.error > 1.0);
        assert!(
            near(d.perplexity_ratio.value, 0.5f64.exp()) && near(d.perplexity_ratio.error, 0.0)
        );
        assert!(near(d.top1_agreement.value, 0.75) && near(d.top1_agreement.error, 0.25));
        assert!(
            near(d.kl.mean.value, 0.25) && near(d.delta_p_rms, 0.5) && near(d.delta_p.value, -0.5)
        );
    }
}
