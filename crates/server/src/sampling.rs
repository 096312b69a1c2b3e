//! How the next token is chosen: the request's word, else the store's, else the file's own `general.sampling.*` keys, else Ollama's
//! defaults (temperature 0.8, top-k 40, top-p 0.9, no penalties). One list of names serves requests, flags and `/set parameter`.

use hob_engine::sample::{OptionError, SampleOptions};
use hob_gguf::{MetaError, Metadata};
use serde_json::{Map, Value};

use crate::file::ModelFile;

/// A parameter that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// No such parameter.
    #[error("unknown parameter '{name}'; known: {}", PARAMETERS.join(", "))]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A text that is no value of it.
    #[error("'{value}' is no value for {name}")]
    Value {
        /// The parameter.
        name: String,
        /// The text.
        value: String,
    },
    /// A value out of its range.
    #[error(transparent)]
    Range(#[from] OptionError),
    /// The file's recommendation is of a wrong type.
    #[error(transparent)]
    File(#[from] MetaError),
}

/// What a request needs besides its prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// For the sampler.
    pub options: SampleOptions,
    /// Tokens at most; `None` fills the context.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

impl Sampling {
    /// The file's recommendations over the defaults.
    ///
    /// # Errors
    /// A key of a wrong type or a value out of its range: the file is broken, and guessing would hide it.
    pub fn of_file(meta: &Metadata) -> Result<Sampling, SamplingError> {
        let mut options = SampleOptions::default();
        let key = |name: &str| format!("general.sampling.{name}");
        let float = |name: &str, default: f32| -> Result<f32, MetaError> {
            Ok(meta.opt_f32(&key(name))?.unwrap_or(default))
        };
        options.temperature = float("temp", options.temperature)?;
        options.top_p = float("top_p", options.top_p)?;
        options.min_p = float("min_p", options.min_p)?;
        options.repeat_penalty = float("penalty_repeat", options.repeat_penalty)?;
        if let Some(k) = meta.opt_i64(&key("top_k"))? {
            options.top_k = usize::try_from(k).unwrap_or(0);
        }
        if let Some(n) = meta.opt_i64(&key("penalty_last_n"))? {
            options.repeat_last_n = usize::try_from(n).ok();
        }
        Ok(Sampling { options, max_tokens: None, stop: Vec::new() })
    }

    /// What its store says over what the file says. What does not concern sampling is passed over.
    ///
    /// # Errors
    /// As `of_file`, and for a value that a parameter cannot have.
    pub fn of_model(file: &ModelFile) -> Result<Sampling, SamplingError> {
        let mut sampling = Sampling::of_file(file.meta())?;
        for (name, value) in &file.overlay.parameters {
            if !PARAMETERS.contains(&name.as_str()) {
                continue;
            }
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            if name == "stop" {
                sampling.stop.clear();
            }
            for value in values {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                sampling.set(name, &text)?;
            }
        }
        Ok(sampling)
    }

    /// Sets one of Ollama's parameters by its name.
    ///
    /// # Errors
    /// An unknown name, or a value that it cannot have; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SamplingError> {
        let mut next = self.clone();
        let o = &mut next.options;
        match name {
            "temperature" => o.temperature = number(name, value)?,
            "top_k" => o.top_k = number(name, value)?,
            "top_p" => o.top_p = number(name, value)?,
            "min_p" => o.min_p = number(name, value)?,
            "typical_p" => o.typical_p = number(name, value)?,
            "repeat_penalty" => o.repeat_penalty = number(name, value)?,
            "repeat_last_n" => o.repeat_last_n = usize::try_from(number::<i64>(name, value)?).ok(),
            "presence_penalty" => o.presence_penalty = number(name, value)?,
            "frequency_penalty" => o.frequency_penalty = number(name, value)?,
            "seed" => o.seed = u64::try_from(number::<i64>(name, value)?).ok(),
            "num_predict" => {
                next.max_tokens =
                    usize::try_from(number::<i64>(name, value)?).ok().filter(|&n| n > 0);
            }
            "stop" => next.stop.push(value.to_owned()),
            _ => return Err(SamplingError::Unknown { name: name.to_owned() }),
        }
        next.options.validate(usize::MAX)?;
        *self = next;
        Ok(())
    }

    /// All of them as the `options` of a request that leave nothing to the model.
    pub fn to_options(&self) -> Map<String, Value> {
        let o = &self.options;
        // By its digits: 0.9 is not to become 0.8999999761581421.
        let float = |x: f32| x.to_string().parse::<f64>().map_or(Value::Null, Value::from);
        let or_minus_one = |n: Option<u64>| n.map_or(Value::from(-1), Value::from);
        let count = |n: Option<usize>| or_minus_one(n.map(|n| n as u64));
        [
            ("temperature", float(o.temperature)),
            ("top_k", o.top_k.into()),
            ("top_p", float(o.top_p)),
            ("min_p", float(o.min_p)),
            ("typical_p", float(o.typical_p)),
            ("repeat_penalty", float(o.repeat_penalty)),
            ("repeat_last_n", count(o.repeat_last_n)),
            ("presence_penalty", float(o.presence_penalty)),
            ("frequency_penalty", float(o.frequency_penalty)),
            ("seed", or_minus_one(o.seed)),
            ("num_predict", count(self.max_tokens)),
            ("stop", self.stop.clone().into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// From what [`Sampling::to_options`] made; what is no parameter is passed over.
    ///
    /// # Errors
    /// For a value that a parameter cannot have.
    pub fn from_options(options: &Map<String, Value>) -> Result<Sampling, SamplingError> {
        let mut sampling = Sampling::default();
        for (name, value) in options.iter().filter(|(name, _)| PARAMETERS.contains(&name.as_str()))
        {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                sampling.set(name, &text)?;
            }
        }
        Ok(sampling)
    }

    /// Name and value of what differs from the defaults, as Ollama's `parameters` text has them.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let (o, d) = (&self.options, SampleOptions::default());
        let mut lines = Vec::new();
        let mut line = |differs: bool, name, value: String| {
            if differs {
                lines.push((name, value));
            }
        };
        line(o.temperature != d.temperature, "temperature", o.temperature.to_string());
        line(o.top_k != d.top_k, "top_k", o.top_k.to_string());
        line(o.top_p != d.top_p, "top_p", o.top_p.to_string());
        line(o.min_p != d.min_p, "min_p", o.min_p.to_string());
        line(o.typical_p != d.typical_p, "typical_p", o.typical_p.to_string());
        line(o.repeat_penalty != d.repeat_penalty, "repeat_penalty", o.repeat_penalty.to_string());
        let last_n = o.repeat_last_n.map_or("-1".to_owned(), |n| n.to_string());
        line(o.repeat_last_n != d.repeat_last_n, "repeat_last_n", last_n);
        line(o.presence_penalty != 0.0, "presence_penalty", o.presence_penalty.to_string());
        line(o.frequency_penalty != 0.0, "frequency_penalty", o.frequency_penalty.to_string());
        line(o.seed.is_some(), "seed", o.seed.unwrap_or_default().to_string());
        line(
            self.max_tokens.is_some(),
            "num_predict",
            self.max_tokens.unwrap_or_default().to_string(),
        );
        for stop in &self.stop {
            line(true, "stop", format!("{stop:?}"));
        }
        lines
    }
}

/// Names that [`Sampling::set`] knows.
pub const PARAMETERS: [&str; 12] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "num_predict",
    "stop",
];

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, SamplingError> {
    let (name, value) = (name.to_owned(), value.to_owned());
    value.parse().map_err(|_| SamplingError::Value { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_gguf::MetaBuilder;

    #[test]
    fn the_file_wins_over_defaults() {
        let meta = MetaBuilder::new()
            .set("general.sampling.temp", 0.6f32)
            .set("general.sampling.top_k", 20i32)
            .set("general.sampling.penalty_last_n", -1i32)
            .build()
            .unwrap();
        let file = Sampling::of_file(&meta).unwrap();
        assert_eq!(
            (file.options.temperature, file.options.top_k, file.options.top_p),
            (0.6, 20, 0.9)
        );
        assert_eq!(file.options.repeat_last_n, None);
    }

    #[test]
    fn a_broken_recommendation_is_an_error() {
        let meta = MetaBuilder::new().set("general.sampling.temp", "hot").build().unwrap();
        assert!(
            Sampling::of_file(&meta).unwrap_err().to_string().contains("general.sampling.temp")
        );
    }

    #[test]
    fn options_say_all_of_it() {
        let mut sampling =
            Sampling { stop: vec!["a\"b".into(), "é".into()], ..Sampling::default() };
        for (name, value) in [("temperature", "0.3"), ("seed", "7"), ("repeat_last_n", "-1")] {
            sampling.set(name, value).unwrap();
        }
        let options = sampling.to_options();
        assert_eq!(options.keys().collect::<Vec<_>>(), PARAMETERS);
        assert_eq!((&options["temperature"], &options["num_predict"]), (&0.3.into(), &(-1).into()));
        assert_eq!(Sampling::from_options(&options).unwrap(), sampling);
    }

    #[test]
    fn every_parameter_can_be_set_and_is_shown() {
        let mut sampling = Sampling::of_file(&MetaBuilder::new().build().unwrap()).unwrap();
        assert_eq!(sampling.lines(), []);
        for name in PARAMETERS {
            sampling.set(name, if name.ends_with("_p") { "0.5" } else { "3" }).unwrap();
        }
        let shown: Vec<&str> = sampling.lines().iter().map(|(name, _)| *name).collect();
        assert_eq!(shown, PARAMETERS);
        let before = sampling.clone();
        for (name, value) in
            [("top_p", "2"), ("temperature", "warm"), ("top_k", "-1"), ("nonsense", "1")]
        {
            assert!(sampling.set(name, value).is_err(), "{name} {value}");
        }
        assert_eq!(sampling, before);
    }
}
