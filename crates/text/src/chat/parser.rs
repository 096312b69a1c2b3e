//! A model's answer taken apart as it comes: content, thinking, calls.
//! However the text is cut into pieces, the events join to the same; only what may still become a marker is held back. Blanks next to
//! markers are form, not text. Absent: the formats (`format.rs`), the reading of a call (`calls.rs`).

use super::answer::ChatEvent;
use super::calls::{self, Call, Tools};
use super::format::{Block, ChatFormat, Headers, Syntax, UNHINTED};
use super::scan::{Cut, Scan, find_cut};

/// The longest text of a call.
const MAX_CALL_BYTES: usize = 1 << 20;
/// The longest header of a message.
const MAX_HEADER_BYTES: usize = 256;
/// So many blanks before a marker belong to it.
const MAX_BLANKS: usize = 64;

/// Text is looked at in pieces of this size.
const PIECE_BYTES: usize = 1024;

/// Takes apart one answer.
#[derive(Debug, Clone)]
pub struct ChatParser {
    format: ChatFormat,
    tools: Tools,
    bare: Option<Syntax>,
    place: Place,
    /// Text that is not decided yet.
    held: String,
    /// How far `held` was searched, within a call.
    scan: Scan,
    /// Blanks are dropped until text comes.
    skip_blanks: bool,
    /// There was no content yet.
    fresh: bool,
    calls: usize,
    events: Vec<ChatEvent>,
}

/// Where in an answer the front of `held` is.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Content,
    /// Thinking, up to one of these.
    Thinking(Vec<&'static str>),
    Block(&'static Block),
    /// A call without a marker.
    Bare(Syntax),
    /// A message's header, behind this marker.
    Header(&'static str),
    /// The arguments for a function; the text of the header.
    Arguments {
        name: String,
        header: String,
    },
}

impl ChatParser {
    /// For the answer to `prompt`, whose end may have opened the thinking; `tools` in OpenAI's form, as the template got them.
    pub fn new(format: ChatFormat, prompt: &str, tools: Option<&serde_json::Value>) -> Self {
        let ends = |text: &&&str| prompt.trim_end().ends_with(text.trim_end());
        let closed = format.thinking.iter().any(|(_, close)| ends(&close));
        let thinking = format.thinking.iter().find(|(open, _)| ends(&open));
        let header = format.family.messages.as_ref().and_then(|m| m.start.iter().find(ends));
        let place = match (thinking, header) {
            (Some((_, close)), _) => Place::Thinking(vec![close]),
            // The prompt has the marker: it is not the answer's text.
            (None, Some(_)) => Place::Header(""),
            (None, None) => Place::Content,
        };
        let offered = tools.and_then(|t| t.as_array()).is_some_and(|tools| !tools.is_empty());
        Self {
            bare: format.family.bare.filter(|_| offered),
            tools: Tools::new(tools),
            skip_blanks: closed || matches!(place, Place::Thinking(_)),
            place,
            format,
            held: String::new(),
            scan: Scan::default(),
            fresh: true,
            calls: 0,
            events: Vec::new(),
        }
    }

    /// Takes more of the answer, control tokens written as text, and returns what is certain.
    pub fn push(&mut self, text: &str) -> Vec<ChatEvent> {
        // In small pieces, so that taking the front away costs little.
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.ceil_char_boundary(PIECE_BYTES));
            self.held.push_str(piece);
            while self.step(false) {}
            rest = behind;
        }
        std::mem::take(&mut self.events)
    }

    /// The end of the answer: what was held back.
    pub fn finish(mut self) -> Vec<ChatEvent> {
        while self.step(true) {}
        self.events
    }

    /// Decides about the front of `held`; false if that takes more text.
    fn step(&mut self, last: bool) -> bool {
        if self.held.is_empty()
            && !(last
                && matches!(
                    self.place,
                    Place::Block(_) | Place::Header(_) | Place::Arguments { .. }
                ))
        {
            return false;
        }
        match self.place.clone() {
            Place::Content => self.content(last),
            Place::Thinking(close) => self.thinking(&close, last),
            Place::Block(block) => self.block(block, last),
            Place::Bare(syntax) => self.bare(syntax, last),
            Place::Header(marker) => self.header(marker, last),
            Place::Arguments { name, header } => self.arguments(&name, &header, last),
        }
    }

    fn content(&mut self, last: bool) -> bool {
        if self.fresh
            && let Some(done) = self.empty_thinking(last).or_else(|| self.unhinted_thinking(last))
        {
            return done;
        }
        if let Some(syntax) = self.bare.filter(|_| self.fresh) {
            if self.calls > 0 {
                // Llama is told to write semicolons between its calls.
                let form = |c: char| c.is_whitespace() || c == ';';
                let text = self.held.trim_start_matches(form).len();
                self.held.drain(..self.held.len() - text);
            }
            let text = self.held.trim_ascii_start();
            if !text.is_empty() && calls::may_be_bare(syntax, text) {
                let blanks = self.held.len() - text.len();
                self.give(blanks.saturating_sub(MAX_BLANKS), false);
                self.go(Place::Bare(syntax));
                return true;
            }
        }
        let family = self.format.family;
        let mut markers: Vec<&'static str> = Vec::new();
        markers.extend(self.format.thinking.iter().map(|(open, _)| open));
        markers.extend(family.blocks.iter().map(|block| block.open));
        markers.extend(family.ignored);
        if let Some(headers) = &family.messages {
            markers.extend(headers.start.iter().chain(headers.end));
        }
        let Some(marker) = self.text_until(&markers, false, last) else { return false };
        let block = family.blocks.iter().find(|block| block.open == marker);
        let thinking = self.format.thinking.iter().find(|(open, _)| *open == marker);
        let starts = family.messages.as_ref().is_some_and(|m| m.start.contains(&marker));
        match (block, thinking) {
            (Some(block), _) => self.go(Place::Block(block)),
            (None, Some((_, close))) => self.go(Place::Thinking(vec![close])),
            (None, None) if starts => self.go(Place::Header(marker)),
            (None, None) => {}
        }
        self.skip_blanks = true;
        true
    }

    /// Takes the end of thinking that did not take place from the front; whether it is there, `None` if it is not.
    fn empty_thinking(&mut self, last: bool) -> Option<bool> {
        let text = self.held.trim_ascii_start();
        let blanks = self.held.len() - text.len();
        let mut closes = self.format.thinking.iter().map(|(_, close)| *close);
        if let Some(close) = closes.clone().find(|close| text.starts_with(close)) {
            self.give(blanks.saturating_sub(MAX_BLANKS), false);
            self.held.drain(..blanks.min(MAX_BLANKS) + close.len());
            self.skip_blanks = true;
            return Some(true);
        }
        let may_be = !last && !text.is_empty() && closes.any(|close| close.starts_with(text));
        may_be.then_some(false)
    }

    /// Takes the start of thinking from the front where the template has no hint of any; as [`Self::empty_thinking`].
    fn unhinted_thinking(&mut self, last: bool) -> Option<bool> {
        let (open, close) = UNHINTED;
        let text = self.held.trim_ascii_start();
        if text.is_empty() || !self.format.thinking.is_empty() || self.calls > 0 {
            return None;
        }
        if text.starts_with(open) {
            let blanks = self.held.len() - text.len();
            self.give(blanks.saturating_sub(MAX_BLANKS), false);
            self.held.drain(..blanks.min(MAX_BLANKS) + open.len());
            self.go(Place::Thinking(vec![close]));
            self.skip_blanks = true;
            return Some(true);
        }
        (!last && open.starts_with(text)).then_some(false)
    }

    fn thinking(&mut self, close: &[&'static str], last: bool) -> bool {
        let Some(marker) = self.text_until(close, true, last) else { return false };
        let headers = self.format.family.messages.as_ref();
        let starts = headers.is_some_and(|m| m.start.contains(&marker));
        self.go(if starts { Place::Header(marker) } else { Place::Content });
        self.skip_blanks = true;
        true
    }

    /// Gives away text up to one of the markers and takes the marker; `None` if there is none in what is held.
    fn text_until(
        &mut self,
        markers: &[&'static str],
        thinking: bool,
        last: bool,
    ) -> Option<&'static str> {
        match find_cut(&self.held, markers, last) {
            Cut::Marker(at, marker) => {
                let end = before_blanks(&self.held, at);
                self.give(end, thinking);
                self.held.drain(..at - end + marker.len());
                Some(marker)
            }
            Cut::Hold(at) => {
                let end = if last { self.held.len() } else { before_blanks(&self.held, at) };
                self.give(end, thinking);
                None
            }
        }
    }

    /// Gives away so many bytes of text.
    fn give(&mut self, bytes: usize, thinking: bool) {
        let text: String = self.held.drain(..bytes).collect();
        self.tell(&text, thinking);
    }

    fn tell(&mut self, text: &str, thinking: bool) {
        let text = if self.skip_blanks { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.skip_blanks = false;
        self.fresh &= thinking || text.trim().is_empty();
        match (self.events.last_mut(), thinking) {
            (Some(ChatEvent::Thinking(more)), true) | (Some(ChatEvent::Content(more)), false) => {
                more.push_str(text);
            }
            (_, true) => self.events.push(ChatEvent::Thinking(text.to_owned())),
            (_, false) => self.events.push(ChatEvent::Content(text.to_owned())),
        }
    }

    fn go(&mut self, place: Place) {
        self.place = place;
        self.scan = Scan::default();
    }

    fn block(&mut self, block: &'static Block, last: bool) -> bool {
        let opens: Vec<&'static str>;
        let closes = if block.close.is_empty() {
            opens = self.format.family.blocks.iter().map(|b| b.open).collect();
            opens.as_slice()
        } else {
            std::slice::from_ref(&block.close)
        };
        let quoted = matches!(block.syntax, Syntax::Json | Syntax::Keyed | Syntax::Headed { .. });
        let end = self.scan.find(&self.held, closes, quoted);
        let end = end.filter(|(at, _)| *at <= MAX_CALL_BYTES);
        if end.is_none() && !last && self.held.len() <= MAX_CALL_BYTES + MAX_BLANKS {
            return false;
        }
        let at = end.map_or_else(|| self.call_bytes(), |(at, _)| at);
        let body: String = self.held.drain(..at).collect();
        let close = end.map_or("", |_| block.close);
        self.held.drain(..close.len());
        self.go(Place::Content);
        self.skip_blanks = true;
        let cut_off = end.is_none() && block.needs_close();
        let found = calls::read(block.syntax, &body, &self.tools).filter(|_| !cut_off);
        match found {
            Some((calls, rest)) => {
                calls.into_iter().for_each(|call| self.call(call));
                self.tell(rest.trim_end(), false);
                self.skip_blanks = true;
            }
            None => self.broken([block.open, &body, close].concat()),
        }
        true
    }

    /// How much of `held` is taken for a call that does not end.
    fn call_bytes(&self) -> usize {
        self.held.floor_char_boundary(MAX_CALL_BYTES)
    }

    fn bare(&mut self, syntax: Syntax, last: bool) -> bool {
        let blanks = self.held.len() - self.held.trim_ascii_start().len();
        let hopeless = !calls::may_be_bare(syntax, self.held.trim_ascii_start());
        let end = self.scan.value_end(&self.held, syntax == Syntax::Python);
        let too_long = self.held.len() - blanks > MAX_CALL_BYTES;
        if !hopeless && end.is_none() && !too_long && !last {
            return false;
        }
        self.go(Place::Content);
        let end = end.filter(|end| !hopeless && *end - blanks <= MAX_CALL_BYTES);
        let body = end.and_then(|end| self.held.get(..end)).unwrap_or_default();
        match calls::read_bare(syntax, body, &self.tools) {
            Some(calls) => {
                self.held.drain(..end.unwrap_or(0));
                calls.into_iter().for_each(|call| self.call(call));
                self.skip_blanks = true;
            }
            None => {
                // Plain text after all; markers may follow behind the bracket.
                self.fresh = false;
                self.give(end.unwrap_or(blanks + 1), false);
            }
        }
        true
    }

    fn header(&mut self, marker: &'static str, last: bool) -> bool {
        let Some(headers) = &self.format.family.messages else {
            self.go(Place::Content);
            return true;
        };
        let found = self.held.find(headers.message).filter(|at| *at <= MAX_HEADER_BYTES);
        let long = self.held.len() > MAX_HEADER_BYTES + headers.message.len();
        let Some(at) = found else {
            if !last && !long {
                return false;
            }
            self.go(Place::Content);
            self.skip_blanks = false;
            self.tell(marker, false);
            return true;
        };
        let header: String = self.held.drain(..at).collect();
        self.held.drain(..headers.message.len());
        self.skip_blanks = true;
        let place = message_place(headers, marker, header);
        self.go(place);
        true
    }

    fn arguments(&mut self, name: &str, header: &str, last: bool) -> bool {
        let Some(headers) = &self.format.family.messages else { return false };
        let closes = [headers.end, headers.start].concat();
        let end = self.scan.find(&self.held, &closes, true);
        let end = end.filter(|(at, _)| *at <= MAX_CALL_BYTES);
        if end.is_none() && !last && self.held.len() <= MAX_CALL_BYTES + MAX_BLANKS {
            return false;
        }
        let at = end.map_or_else(|| self.call_bytes(), |(at, _)| at);
        let body: String = self.held.drain(..at).collect();
        self.go(Place::Content);
        self.skip_blanks = true;
        match calls::arguments(&body).filter(|_| end.is_some() || !body.trim().is_empty()) {
            Some(arguments) => self.call(Call { id: None, name: name.to_owned(), arguments }),
            None => self.broken(format!("{header}{body}")),
        }
        true
    }

    fn call(&mut self, call: Call) {
        let index = self.calls;
        self.calls += 1;
        let text = serde_json::Value::Object(call.arguments).to_string();
        self.events.push(ChatEvent::ToolCallStart { index, id: call.id, name: call.name });
        self.events.push(ChatEvent::ToolCallArguments { index, text });
        self.events.push(ChatEvent::ToolCallEnd { index });
    }

    fn broken(&mut self, text: String) {
        self.fresh = false;
        self.events.push(ChatEvent::BrokenCall(text));
    }
}

/// What a message is, by its header.
fn message_place(headers: &Headers, marker: &str, header: String) -> Place {
    if !headers.thinking.is_empty() && header.contains(headers.thinking) {
        return Place::Thinking([headers.end, headers.start].concat());
    }
    let call = calls::expression(headers.call).filter(|_| !headers.call.is_empty());
    let name =
        call.and_then(|call| Some(call.captures(&header)?.name("name")?.as_str().to_owned()));
    match name.filter(|name| name != "all") {
        Some(name) => {
            let header = [marker, &header, headers.message].concat();
            Place::Arguments { name, header }
        }
        None => Place::Content,
    }
}

/// The end of the text before at most so many blanks that end at `at`.
fn before_blanks(text: &str, at: usize) -> usize {
    let head = text.get(..at).unwrap_or(text).as_bytes();
    let blanks = head.iter().rev().take(MAX_BLANKS).take_while(|b| b.is_ascii_whitespace()).count();
    head.len() - blanks
}
