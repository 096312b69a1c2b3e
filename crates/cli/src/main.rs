//! The `hob` command: parses, wires the other crates together and prints. One file per verb, one match here; the only crate with
//! `anyhow`. Deliberately absent: anything another program could want to call.

mod advise;
mod answer;
mod bench;
mod chat;
mod convert;
mod cp;
mod create;
mod doctor;
mod embed;
mod eval;
mod fit;
mod folder;
mod grid;
mod hardware;
mod imatrix;
mod import;
mod input;
mod interrupt;
mod list;
mod models;
mod out;
mod printer;
mod probe;
mod progress;
mod ps;
mod pull;
mod push;
mod quality;
mod quantize;
mod remote;
mod rm;
mod run;
mod sampling;
mod search;
mod serve;
mod service;
mod show;
mod stop;
mod talk;
mod there;
mod tokenize;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Large language models on your own hardware.
///
/// MODEL is a name from the catalogue (smollm2:135m) or a path to a GGUF file.
#[derive(Parser)]
#[command(name = "hob", version, arg_required_else_help = true)]
#[command(
    after_help = "Start here:\n  hob run smollm2:135m \"What is the capital city of France?\"\n\n\
    Models are kept in $HOB_HOME, or else in ~/.hob.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Args),
    #[command(alias = "start")]
    Serve(serve::Args),
    Service(service::Args),
    Ps(ps::Args),
    Stop(stop::Args),
    Pull(pull::Args),
    #[command(alias = "ls")]
    List(list::Args),
    Show(show::Args),
    Cp(cp::Args),
    Create(create::Args),
    Import(import::Args),
    Rm(rm::Args),
    Push(push::Args),
    Search(search::Args),
    Verify(verify::VerifyArgs),
    Gc(verify::GcArgs),
    Tokenize(tokenize::Args),
    Embed(embed::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Eval(eval::Args),
    Fit(fit::Args),
    Advise(advise::Args),
    Convert(convert::Args),
    Imatrix(imatrix::Args),
    Quantize(quantize::Args),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    // A server ends in order, by its own rules.
    let ready = if matches!(verb, Verb::Serve(_)) { Ok(()) } else { interrupt::install() };
    match ready.and_then(|()| dispatch(&verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => out::report(&error),
    }
}

fn dispatch(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Run(args) => run::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Service(args) => service::run(args),
        Verb::Ps(args) => ps::run(args),
        Verb::Stop(args) => stop::run(args),
        Verb::Pull(args) => pull::run(args),
        Verb::List(args) => list::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Cp(args) => cp::run(args),
        Verb::Create(args) => create::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Rm(args) => rm::run(args),
        Verb::Push(args) => push::run(args),
        Verb::Search(args) => search::run(args),
        Verb::Verify(args) => verify::verify(args),
        Verb::Gc(args) => verify::gc(args),
        Verb::Tokenize(args) => tokenize::run(args),
        Verb::Embed(args) => embed::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Fit(args) => fit::run(args),
        Verb::Advise(args) => advise::run(args),
        Verb::Convert(args) => convert::run(args),
        Verb::Imatrix(args) => imatrix::run(args),
        Verb::Quantize(args) => quantize::run(args),
    }
}
