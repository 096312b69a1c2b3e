//! Pulls one model into `HOB_HOME`, which is what `hob pull` does without the rest of hob, and prints the file's path or why there is
//! none. Small on purpose: `cargo xtask pulls` runs it under strace, where every line of the trace is to be accounted for.

use std::process::ExitCode;

use hob_hub::{Hub, Wishes};

fn main() -> ExitCode {
    let Some(reference) = std::env::args().nth(1) else {
        eprintln!("usage: pull_once MODEL");
        return ExitCode::from(2);
    };
    match Hub::open().and_then(|hub| hub.pull(&reference, &Wishes::plain(), &mut |_| ())) {
        Ok(model) => {
            println!("{}", model.path.display());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
