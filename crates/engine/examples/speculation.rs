//! What drafting gains on a real file: the time of a step by its rows, then a code-editing prompt (`edit.txt`, put as
//! ChatML) answered without drafts, with as many as fit, and with as many as pay. Prints CSV; `busy` are the seconds of
//! the processor over all threads, which say more where other programs run (with one thread: others spin).
//! `cargo run --release -p hob-engine --example speculation -- MODEL.gguf THREADS RUNS TOKENS [DRAFT.gguf]`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use hob_engine::{
    Draft, Engine, EngineConfig, Event, LoadOptions, MAX_DRAFT, Request, Runner, SampleOptions,
    Speculate,
};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Output};
use hob_text::{EncodeOptions, Tokenizer};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONTEXT: usize = 4096;
const DEPTH: usize = 640;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("give the path of a GGUF file")?;
    let mut number = |other: usize| args.next().map_or(Ok(other), |number| number.parse());
    let (threads, runs, most) = (number(0)?, number(3)?, number(900)?);
    let draft = args.next();
    let load = |path: &str| load(path, threads);
    println!("test,rows,seconds,busy,tokens,tok_s,drafted,accepted");
    for (rows, seconds, busy) in steps(&mut load(&path)?)? {
        println!("step,{rows},{seconds:.4},{busy:.4},{rows},{:.2},,", rows as f64 / seconds);
    }
    let gguf = Gguf::open(path.as_ref())?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta())?);
    let config = EngineConfig { context: CONTEXT, sequences: 1, queue: 1, mixed_rows: 512 };
    let engine = match draft {
        None => Engine::start(load(&path)?, tokenizer.clone(), config)?,
        Some(draft) => {
            let own = Arc::new(Tokenizer::from_gguf(Gguf::open(draft.as_ref())?.meta())?);
            let draft = Draft { runner: load(&draft)?, tokenizer: Some(own) };
            Engine::start_with_draft(load(&path)?, tokenizer.clone(), config, draft)?
        }
    };
    let text = format!(
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        include_str!("edit.txt")
    );
    let prompt = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: true });
    let mut answers = Vec::new();
    for _ in 0..runs {
        for how in [Speculate::Off, Speculate::On, Speculate::Auto] {
            answers.push(answer(&engine, &prompt, how, most)?);
        }
    }
    if answers.iter().any(|answer| *answer != answers[0]) {
        return Err("the answers differ".into());
    }
    eprintln!("{}", tokenizer.decode(&answers[0]));
    Ok(())
}

fn load(path: &str, threads: usize) -> Result<Runner> {
    let gguf = Gguf::open(path.as_ref())?;
    let limits = Limits { logits: 1 + MAX_DRAFT.max(15), ..Limits::new(512, CONTEXT / 64) };
    Ok(Runner::load(Arc::new(gguf), &LoadOptions { threads, limits })?)
}

/// Seconds that this process has had the processor, where the system says.
fn busy() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e9
}

/// Rows, seconds and processor seconds of steps at some depth, logits of all rows included: medians of seven.
fn steps(runner: &mut Runner) -> Result<Vec<(usize, f64, f64)>> {
    let pages: Vec<u32> = (0..(CONTEXT / 64) as u32).collect();
    let mut batch = Batch::new();
    let mut step = |start: usize, rows: usize, output| -> Result<(f64, f64)> {
        let token = |i| 100 + (i * 7919 % 5000) as u32;
        let tokens: Vec<u32> = (start..start + rows).map(token).collect();
        batch.clear();
        batch.push(&tokens, start as u32, &pages, output)?;
        let (time, before) = (Instant::now(), busy());
        runner.step(&batch)?;
        let outputs = batch.outputs().len();
        runner.logits(0..outputs)?;
        Ok((time.elapsed().as_secs_f64(), busy() - before))
    };
    for start in (0..DEPTH).step_by(128) {
        step(start, 128, Output::None)?;
    }
    let mut times = Vec::new();
    for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16] {
        step(DEPTH, rows, Output::All)?;
        let seconds = (0..7).map(|_| step(DEPTH, rows, Output::All));
        let (mut wall, mut busy): (Vec<f64>, Vec<f64>) =
            seconds.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        wall.sort_by(f64::total_cmp);
        busy.sort_by(f64::total_cmp);
        times.push((rows, wall[3], busy[3]));
    }
    Ok(times)
}

/// Answers greedily and prints how that went.
fn answer(engine: &Engine, prompt: &[u32], how: Speculate, most: usize) -> Result<Vec<u32>> {
    let request = Request {
        prompt: prompt.to_vec(),
        max_tokens: Some(most),
        sample: SampleOptions::greedy(),
        speculate: how,
        ..Request::default()
    };
    let (mut tokens, mut first) = (Vec::new(), None);
    for event in engine.submit(request)? {
        match event {
            Event::Token { id, .. } => {
                first.get_or_insert_with(busy);
                tokens.push(id);
            }
            Event::Done(done) => {
                let (count, seconds) = (done.generated_tokens, done.timings.decode);
                let speed = (count - 1) as f64 / seconds;
                let (drafted, accepted) = (done.drafted, done.accepted);
                let busy = busy() - first.unwrap_or_else(busy);
                println!("{how:?},,{seconds:.3},{busy:.3},{count},{speed:.2},{drafted},{accepted}");
            }
            Event::Failed(failure) => return Err(failure.into()),
            Event::Started { .. } => {}
        }
    }
    Ok(tokens)
}
