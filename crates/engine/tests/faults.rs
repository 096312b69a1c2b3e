//! Cancelled, dropped, panicking and overrun: no request hangs, no page is lost, the others go on.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use hob_engine::{Cancel, Engine, EngineConfig, EngineError, Event, Failure, Finish};

/// An engine that waits at the start of every step until it is let go; dropping the gate opens it.
fn gated() -> (Engine, Sender<()>) {
    let (gate, open): (Sender<()>, Receiver<()>) = channel();
    let engine = engine_of(&gguf(), 32, 64, EngineConfig { queue: 4, ..config() }, move |_| {
        let _ = open.recv();
    });
    (engine, gate)
}

#[test]
fn cancelled_at_every_step_leaves_everything_in_order() {
    let gguf = gguf();
    let asked = || request(prompt(1, 150), 12, greedy());
    let expected = ask(&engine(), asked()).tokens;
    let neighbour = ask(&engine(), request(prompt(2, 40), 40, drawn(1))).tokens;
    let (cancel, countdown) = (Arc::new(Mutex::new(None::<Cancel>)), Arc::new(AtomicUsize::new(0)));
    let (seen, left) = (cancel.clone(), countdown.clone());
    let engine = engine_of(&gguf, 32, 16, config(), move |_| {
        let due = left.fetch_sub(1, Ordering::Relaxed) == 0;
        if let Some(cancel) = seen.lock().unwrap().take_if(|_| due) {
            cancel.cancel();
        }
    });
    let mut ends = Vec::new();
    for step in 0..40 {
        // Another sequence runs through it all.
        let other = engine.submit(request(prompt(2, 40), 40, drawn(1))).unwrap();
        let (sender, events) = channel();
        let mut slot = cancel.lock().unwrap();
        countdown.store(step, Ordering::Relaxed);
        let handle =
            engine.submit_to(asked(), Box::new(move |event| sender.send(event).is_ok())).unwrap();
        *slot = Some(handle);
        drop(slot);
        let mut tokens = Vec::new();
        for event in events {
            match event {
                Event::Token { id, .. } => tokens.push(id),
                Event::Done(done) => ends.push((done.finish, tokens.len())),
                Event::Started { .. } => {}
                Event::Failed(failure) => panic!("{failure}"),
            }
        }
        assert!(expected.starts_with(&tokens));
        assert_eq!(collect(other).tokens, neighbour);
        idle(&engine);
        assert_eq!(engine.status().available_pages, 16, "after {step} steps");
        cancel.lock().unwrap().take();
    }
    assert!(ends.contains(&(Finish::Cancelled, 0)), "in prefill");
    assert!(
        ends.iter().any(|(finish, n)| *finish == Finish::Cancelled && *n > 3),
        "while decoding"
    );
    assert_eq!(ask(&engine, asked()).tokens, expected);
}

#[test]
fn a_dropped_stream_cancels_within_a_step() {
    let (engine, gate) = gated();
    let mut dropped = engine.submit(request(prompt(1, 10), 400, greedy())).unwrap();
    (0..3).for_each(|_| gate.send(()).unwrap());
    assert!(matches!(dropped.next(), Some(Event::Started { .. })));
    assert!(matches!(dropped.next(), Some(Event::Token { .. })));
    drop(dropped);
    gate.send(()).unwrap();
    idle(&engine);
    assert_eq!(engine.status().available_pages, 64);
}

#[test]
fn a_waiting_request_can_be_cancelled() {
    let config = EngineConfig { sequences: 1, ..config() };
    let (gate, open): (Sender<()>, Receiver<()>) = channel();
    let engine = engine_of(&gguf(), 32, 64, config, move |_| {
        let _ = open.recv();
    });
    let running = engine.submit(request(prompt(1, 10), 10, greedy())).unwrap();
    let waiting = engine.submit(request(prompt(2, 10), 10, greedy())).unwrap();
    waiting.cancel();
    gate.send(()).unwrap();
    gate.send(()).unwrap();
    let answer = collect(waiting);
    assert_eq!((answer.done().finish, answer.done().generated_tokens), (Finish::Cancelled, 0));
    drop(gate);
    assert_eq!(collect(running).tokens.len(), 10);
}

#[test]
fn a_full_queue_says_so() {
    let (engine, gate) = gated();
    let ask = || engine.submit(request(prompt(1, 10), 3, greedy()));
    let mut streams = vec![ask().unwrap()];
    // Held in its first step, it has left the queue; then four may wait.
    assert!(matches!(streams[0].next(), Some(Event::Started { .. })));
    streams.extend((0..4).map(|_| ask().unwrap()));
    assert!(matches!(ask(), Err(EngineError::Busy { limit: 4 })));
    assert_eq!(engine.status().waiting, 4);
    drop(gate);
    assert!(streams.into_iter().all(|s| collect(s).tokens.len() == 3));
    assert_eq!(ask().map(collect).unwrap().tokens.len(), 3);
}

#[test]
fn a_slow_reader_holds_nobody_up() {
    let engine = engine();
    let unread = engine.submit(request(prompt(1, 10), 100, greedy())).unwrap();
    assert_eq!(ask(&engine, request(prompt(2, 10), 100, greedy())).tokens.len(), 100);
    idle(&engine);
    assert_eq!(collect(unread).tokens.len(), 100);
}

/// An engine whose device panics at these steps.
fn panicking(steps: &'static [usize]) -> Engine {
    let mut step = 0;
    engine_of(&gguf(), 32, 64, EngineConfig { sequences: 2, ..config() }, move |_| {
        step += 1;
        assert!(!steps.contains(&step), "the device burns");
    })
}

#[test]
fn a_panic_ends_what_ran_and_nothing_else() {
    let engine = panicking(&[5, 9]);
    let asked = || request(prompt(1, 70), 10, greedy());
    let expected = ask(&common::engine(), asked()).tokens;
    let streams: Vec<_> = (0..6).map(|_| engine.submit(asked()).unwrap()).collect();
    let answers: Vec<_> = streams.into_iter().map(collect).collect();
    let failed = answers.iter().filter(|a| a.end.is_err()).count();
    assert!((2..=4).contains(&failed), "{failed}");
    for answer in &answers {
        match &answer.end {
            Ok(done) => assert_eq!((done.finish, &answer.tokens), (Finish::Length, &expected)),
            Err(failure) => assert_eq!(*failure, Failure::Step("the device burns".to_owned())),
        }
    }
    assert!(engine.status().alive);
    idle(&engine);
    assert_eq!(engine.status().available_pages, 64);
    assert_eq!(ask(&engine, asked()).tokens, expected);
}

#[test]
fn a_lost_device_is_reported_and_hangs_nobody() {
    let engine = panicking(&[1, 2, 3]);
    let asked = || request(prompt(1, 10), 10, greedy());
    let streams: Vec<_> = (0..12).filter_map(|_| engine.submit(asked()).ok()).collect();
    assert!(streams.into_iter().all(|s| collect(s).end.is_err()));
    for _ in 0..2000 {
        match engine.submit(asked()) {
            Err(error) => {
                assert!(matches!(error, EngineError::Stopped(_)));
                assert!(!engine.status().alive);
                return;
            }
            Ok(stream) => assert!(collect(stream).end.is_err()),
        }
    }
    panic!("still alive");
}

#[test]
fn a_panicking_sink_ends_its_own_request_only() {
    let engine = engine();
    let other = engine.submit(request(prompt(2, 10), 50, greedy())).unwrap();
    let sink = Box::new(|_| panic!("no reader"));
    engine.submit_to(request(prompt(1, 10), 50, greedy()), sink).unwrap();
    assert_eq!(collect(other).tokens.len(), 50);
    idle(&engine);
    assert_eq!(engine.status().available_pages, 64);
}

#[test]
fn dropping_the_engine_ends_what_runs_and_what_waits() {
    let engine = engine_of(&gguf(), 32, 64, EngineConfig { sequences: 1, ..config() }, |_| {
        std::thread::sleep(Duration::from_millis(50));
    });
    let mut running = engine.submit(request(prompt(1, 10), 400, greedy())).unwrap();
    let waiting = engine.submit(request(prompt(1, 10), 400, greedy())).unwrap();
    assert!(matches!(running.next(), Some(Event::Started { .. })));
    let clone = engine.clone();
    drop(engine);
    assert!(matches!(running.next(), Some(Event::Token { .. })), "a handle is left");
    drop(clone);
    assert_eq!(collect(running).end, Err(Failure::Stopped));
    assert_eq!(collect(waiting).end, Err(Failure::Stopped));
}
