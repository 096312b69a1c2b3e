//! The project's chores in Rust: one file per command, run as `cargo xtask COMMAND`.
//! Deliberately absent: anything that a user of hob needs, and shell scripts (only `.ci/run` is one).

mod arrows;
mod assets;
mod avx512;
mod bench;
mod check;
mod clients;
mod expect;
mod judge;
mod llmfit;
mod load;
mod pulls;
mod quants;
mod schemas;
mod sh;
mod sources;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Formatting, clippy, the arrows between crates, and the rules for source files
    Check,
    /// Print the table of arrows between crates as Markdown
    Arrows,
    /// Fetch models, vocabularies and texts for tests and benchmarks, checked by sha256
    Assets(assets::Args),
    /// Fetch what the tests use, then run them all: `cargo test --workspace ARGS`
    Test {
        /// Arguments for cargo test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure hob against llama.cpp's llama-bench, interleaved; writes a CSV file to bench/
    Bench(bench::Args),
    /// Compare hob's predictions with llama.cpp's; writes a CSV file to bench/ and fails if they are too far apart
    Judge(judge::Args),
    /// Measure hob's server against llama.cpp's with many clients at once; writes a CSV file to bench/
    Load(load::Args),
    /// Make every recipe with hob and with llama.cpp, and judge both; goes on where the last run ended
    Quants(quants::Args),
    /// Measure hob's downloads against Hugging Face's client, from a loopback server; writes a CSV file to bench/
    Transfer(transfer::Args),
    /// Prove what pulls promise: hostile servers under strace, full disks, kills, flipped bits; Linux, minutes (docs/pulls.md)
    Pulls(pulls::Args),
    /// Drive a server of hob with unmodified clients from their packages, and coding agents (docs/clients.md)
    Clients(clients::Args),
    /// Ask a server for answers to 200 JSON schemas, and have each judged by a validator; minutes (docs/schemas.md)
    Schemas(schemas::Args),
    /// Hold what the planner expects of this machine against what is measured on it; writes a CSV file to bench/
    Expect(expect::Args),
    /// Set the planner's decode speeds beside llmfit's on the same measured rows; minutes (docs/speed.md)
    Llmfit(llmfit::Args),
    /// Run hob-cpu's tests on an emulated processor with AVX-512; Debian only: installs what is missing with apt-get
    Avx512(avx512::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Check => check::run(),
        Command::Arrows => {
            print!("{}", arrows::markdown());
            Ok(())
        }
        Command::Assets(args) => assets::run(&args),
        Command::Test { args } => test(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Quants(args) => quants::run(&args),
        Command::Transfer(args) => transfer::run(&args),
        Command::Pulls(args) => pulls::run(&args),
        Command::Clients(args) => clients::run(&args),
        Command::Schemas(args) => schemas::run(&args),
        Command::Expect(args) => expect::run(&args),
        Command::Llmfit(args) => llmfit::run(&args),
        Command::Avx512(args) => avx512::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The README's second command.
fn test(args: &[String]) -> anyhow::Result<()> {
    assets::run(&assets::Args::default())?;
    sh::run(sh::cargo(&["test", "--workspace"]).args(args))
}
