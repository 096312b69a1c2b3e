//! One or several answers to a request of OpenAI's completions, waited for or as a stream of chunks. What a choice looks like is the caller's
//! to say; identity, usage and the end of the stream are here.

use std::time::SystemTime;

use axum::response::Response;
use futures_util::stream::{self as streams, StreamExt};
use serde_json::{Value, json};

use crate::answer::{Answer, End, Heard, Piece, Prepared, Whole};
use crate::error::ApiError;
use crate::http::shape::Dialect;
use crate::http::{dropped, stream};
use crate::ids;

/// What all chunks of a response have in common.
pub struct Frame {
    pub id: String,
    pub object: &'static str,
    pub created: u64,
    /// As the request names it.
    pub model: String,
    /// A chunk with the usage comes last.
    pub include_usage: bool,
    /// Answers to each prompt.
    pub answers: usize,
}

/// How the choices of a response look. `index` counts the answers to the first prompt, then those to the second.
pub trait Choices: Send + 'static {
    /// A whole one.
    fn whole(&mut self, index: usize, whole: Whole) -> Value;
    /// The first of its chunks.
    fn first(&mut self, index: usize) -> Option<Value>;
    /// What comes with more of it.
    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Value>;
    /// Its last chunks.
    fn last(&mut self, index: usize, end: &End) -> Vec<Value>;
}

/// What was used, over all answers.
#[derive(Clone, Debug, Default)]
struct Usage {
    prompt: usize,
    cached: usize,
    answer: usize,
    thinking: usize,
    dropped: usize,
    /// Where the time of a single answer went.
    timings: Option<Value>,
}

impl Usage {
    /// A prompt counts once, however many answers it has.
    fn add(&mut self, frame: &Frame, index: usize, end: &End) {
        if index.is_multiple_of(frame.answers) {
            self.prompt += end.prompt_tokens;
            self.cached += end.cached_tokens;
            self.dropped += end.dropped_tokens;
        }
        self.answer += end.answer_tokens;
        self.thinking += end.thinking_tokens;
        self.timings = (frame.answers == 1 && index == 0).then(|| timings(end));
    }

    fn value(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.thinking},
        })
    }

    /// hob's own fields.
    fn extend(&self, response: &mut Value) {
        if let Some(timings) = &self.timings {
            response["timings"] = timings.clone();
        }
        if self.dropped > 0 {
            response["dropped_tokens"] = self.dropped.into();
        }
    }
}

/// In llama.cpp's words, since clients know them; and what hob knows beside.
fn timings(end: &End) -> Value {
    let t = &end.timings;
    let computed = end.prompt_tokens.saturating_sub(end.cached_tokens);
    let rate = |n: usize, seconds: f64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    json!({
        "cache_n": end.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": t.prefill * 1e3,
        "prompt_per_second": rate(computed, t.prefill),
        "predicted_n": end.answer_tokens,
        "predicted_ms": t.decode * 1e3,
        "predicted_per_second": rate(end.answer_tokens.saturating_sub(1), t.decode),
        "draft_n": end.drafted_tokens,
        "draft_n_accepted": end.accepted_tokens,
        "queue_ms": t.queue * 1e3,
        "load_ms": end.load * 1e3,
    })
}

impl Frame {
    pub fn new(prefix: &str, object: &'static str, model: &str, answers: usize) -> Self {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Frame {
            id: ids::random(prefix, 24),
            object,
            created: created.map_or(0, |d| d.as_secs()),
            model: model.to_owned(),
            include_usage: false,
            answers,
        }
    }

    fn response(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_hob",
            "choices": choices,
        })
    }

    /// Starts the answers to all prompts and waits for them.
    ///
    /// # Errors
    /// When one of them fails; the others end.
    pub async fn wait(
        self,
        prompts: &[Prepared],
        mut choices: impl Choices,
    ) -> Result<Response, ApiError> {
        let answers = self.start(prompts)?;
        let (mut usage, mut all) = (Usage::default(), Vec::with_capacity(answers.len()));
        for (index, answer) in answers.into_iter().enumerate() {
            let whole = answer.whole().await?;
            usage.add(&self, index, &whole.end);
            all.push(choices.whole(index, whole));
        }
        let mut response = self.response(all);
        response["usage"] = usage.value();
        usage.extend(&mut response);
        Ok(dropped(stream::json(&response), usage.dropped))
    }

    /// Starts the answers to all prompts and sends what comes of any.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub fn stream(self, prompts: &[Prepared], choices: impl Choices) -> Result<Response, ApiError> {
        let left_out = prompts.iter().map(|p| p.prompt.dropped).sum();
        let answers = self.start(prompts)?;
        let left = answers.len();
        let heard = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| Box::pin(answer.into_stream().map(move |heard| (index, heard))));
        let heard = streams::select_all(heard);
        let chunks = Chunks {
            begun: vec![false; left],
            left,
            over: false,
            usage: Usage::default(),
            frame: self,
            choices,
        };
        let events = streams::unfold((heard, chunks), |(mut heard, mut chunks)| async move {
            if chunks.over {
                return None;
            }
            let (index, next) = heard.next().await?;
            let events = chunks.events(index, next);
            Some((streams::iter(events), (heard, chunks)))
        });
        Ok(dropped(stream::events(events.flatten(), stream::COMMENT), left_out))
    }

    fn start(&self, prompts: &[Prepared]) -> Result<Vec<Answer>, ApiError> {
        let each = prompts.iter().flat_map(|prompt| (0..self.answers).map(move |n| (prompt, n)));
        each.map(|(prompt, n)| prompt.start(n as u64)).collect()
    }
}

/// The chunks of a stream.
struct Chunks<C> {
    frame: Frame,
    choices: C,
    usage: Usage,
    /// Which answers have said something.
    begun: Vec<bool>,
    /// Answers that have not ended.
    left: usize,
    over: bool,
}

impl<C: Choices> Chunks<C> {
    fn events(&mut self, index: usize, heard: Result<Heard, ApiError>) -> Vec<stream::Sse> {
        let heard = match heard {
            Ok(heard) => heard,
            Err(error) => {
                self.over = true;
                return vec![stream::Sse::data(&Dialect::OpenAi.error(&error))];
            }
        };
        let mut said = Vec::new();
        if let Some(begun) = self.begun.get_mut(index)
            && !std::mem::replace(begun, true)
        {
            said.extend(self.choices.first(index));
        }
        let mut extra = None;
        match heard {
            Heard::Started { .. } => {}
            Heard::Piece(piece) => said.extend(self.choices.piece(index, piece)),
            Heard::End(end) => {
                self.left = self.left.saturating_sub(1);
                self.usage.add(&self.frame, index, &end);
                said.extend(self.choices.last(index, &end));
                extra = (self.begun.len() == 1).then(|| self.usage.clone());
            }
        }
        let mut chunks: Vec<Value> = said.into_iter().map(|choice| self.chunk(choice)).collect();
        if let (Some(usage), Some(last)) = (extra, chunks.last_mut()) {
            usage.extend(last);
        }
        let mut events: Vec<stream::Sse> = chunks.iter().map(stream::Sse::data).collect();
        if self.left == 0 {
            self.over = true;
            if self.frame.include_usage {
                let mut last = self.frame.response(Vec::new());
                last["usage"] = self.usage.value();
                events.push(stream::Sse::data(&last));
            }
            events.push(stream::Sse::done());
        }
        events
    }

    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = self.frame.response(vec![choice]);
        if self.frame.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}
