//! `hob service`: `hob serve` as a service that the system starts, by systemd or launchd. What is written is shown, is never written over
//! what somebody changed, and is all that is done: no packages, no users, no firewall.

mod commands;
mod file;
mod launchd;
mod systemd;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;

use crate::out::{self, Usage};
use crate::serve;
use commands::Manager;
use file::Held;

/// Let the system start `hob serve`, and start it again when it fails
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob service install\n  hob service install -- --host 0.0.0.0:11434 --keep-alive -1\n  \
    hob service install --system --print\n  hob service status --json\n  hob service uninstall\n\n\
    Keys and other HOB_* variables go into the file of variables that install names."
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Write the service and start it; what follows -- is given to `hob serve`
    Install(Install),
    /// Stop the service and remove it; models stay
    Uninstall(Uninstall),
    /// Whether it is there, and runs
    Status(Status),
}

#[derive(clap::Args)]
struct Install {
    /// For the whole machine, from its start, apart from all users [default: for you, from your login]
    #[arg(long)]
    system: bool,
    /// With --system: the user that it runs as [default: one of its own, where the system can make one]
    #[arg(long, value_name = "NAME", requires = "system")]
    user: Option<String>,
    /// Folder of the models [default: HOB_HOME or ~/.hob; with --system /var/lib/hob]
    #[arg(long, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// Only print what would be written
    #[arg(long)]
    print: bool,
    /// Replace a file that somebody has changed; the old one is kept beside it
    #[arg(long)]
    force: bool,
    /// Flags of `hob serve`
    #[arg(last = true, value_name = "FLAGS")]
    serve: Vec<String>,
}

#[derive(clap::Args)]
struct Uninstall {
    /// The one for the whole machine
    #[arg(long)]
    system: bool,
    /// Remove the file even if somebody has changed it
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct Status {
    /// The one for the whole machine
    #[arg(long)]
    system: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a service is made of; [`systemd::unit`] and [`launchd::plist`] write it down.
#[derive(Clone, Debug)]
struct Service {
    /// The program.
    program: PathBuf,
    /// Flags of `hob serve`.
    flags: Vec<String>,
    /// For the whole machine.
    system: bool,
    /// The user, if one was named.
    user: Option<String>,
    /// Folder of the models, if it is not the usual one.
    home: Option<PathBuf>,
    /// File of variables.
    variables: PathBuf,
    /// Where launchd puts what is told.
    log: PathBuf,
    /// Seconds that running answers have at the end.
    grace: u64,
}

/// Flags of `hob serve`, to be looked at before they are written down.
#[derive(Parser)]
#[command(name = "hob serve", no_binary_name = true)]
struct Flags {
    #[command(flatten)]
    args: serve::Args,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let Some(manager) = Manager::here() else {
        bail!(
            "services are not supported on this system; let it start `hob serve` by its own means (on Windows: the Task Scheduler)"
        );
    };
    match &args.what {
        What::Install(args) => install(manager, args),
        What::Uninstall(args) => uninstall(manager, args),
        What::Status(args) => status(manager, args),
    }
}

fn install(manager: Manager, args: &Install) -> Result<()> {
    let service = described(manager, args)?;
    let text = match manager {
        Manager::Systemd => systemd::unit(&service)?,
        Manager::Launchd => launchd::plist(&service)?,
    };
    let text = file::marked(&text, manager.comment());
    if args.print {
        return out::print(&text);
    }
    let path = manager.path(args.system)?;
    let held = file::held(&path, manager.comment())?;
    match (&held, args.force) {
        (Held::Nothing | Held::Ours, _) => {}
        (Held::Changed, true) => {
            let kept = file::keep(&path)?;
            out::say(&format!("the old file is now {}", kept.display()));
        }
        (Held::Changed, false) => bail!(
            "{} was changed by hand, or is not hob's; --force replaces it and keeps the old one beside it",
            path.display()
        ),
    }
    file::write(&path, &text)?;
    let done = if matches!(held, Held::Ours) { "replaced" } else { "wrote" };
    out::say(&format!("{done} {}", path.display()));
    manager.start(args.system, &path)?;
    let variables = service.variables.display();
    out::say(&format!("hob serves; keys and other HOB_* variables go into {variables}, chmod 600"));
    tell_of_variables();
    if !args.system && manager == Manager::Systemd {
        out::say("it ends with your last session, unless you run: loginctl enable-linger");
    }
    Ok(())
}

/// Variables of this shell that a service does not see.
fn tell_of_variables() {
    let ours = |name: &str| name.starts_with("HOB_") && name != "HOB_HOME" || name == "OLLAMA_HOST";
    let set: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let mut set: Vec<&str> = set.iter().map(String::as_str).filter(|name| ours(name)).collect();
    set.sort_unstable();
    if !set.is_empty() {
        out::say(&format!("note: the service does not see {}, set in this shell", set.join(", ")));
    }
}

fn described(manager: Manager, args: &Install) -> Result<Service> {
    let flags = Flags::try_parse_from(&args.serve).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Usage(format!("`hob serve` does not take these flags: {line}"))
    })?;
    flags.args.check_for_service()?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    if args.system {
        check_for_system(manager, args, &program)?;
    }
    let home = match (&args.home, args.system) {
        (Some(home), _) => Some(std::path::absolute(home)?),
        (None, true) => None,
        (None, false) => std::env::var_os("HOB_HOME").map(std::path::absolute).transpose()?,
    };
    Ok(Service {
        program,
        flags: args.serve.clone(),
        system: args.system,
        user: args.user.clone(),
        home,
        variables: manager.variables(args.system)?,
        log: manager.log(args.system)?,
        grace: flags.args.grace(),
    })
}

/// What a service for the whole machine needs.
fn check_for_system(manager: Manager, args: &Install, program: &Path) -> Result<()> {
    if manager == Manager::Launchd && args.user.is_none() {
        return Err(Usage("--system needs --user NAME here: launchd makes no users".into()).into());
    }
    if args.home.is_some() && args.user.is_none() {
        let why = "--home needs --user NAME with --system: the user that the system makes owns /var/lib/hob alone";
        return Err(Usage(why.into()).into());
    }
    let hidden = ["/home", "/root", "/Users"].iter().any(|home| program.starts_with(home));
    if hidden && !args.print {
        bail!(
            "{} is in a user's home, which a service for the whole machine does not see; copy it to /usr/local/bin and \
            install from there",
            program.display()
        );
    }
    Ok(())
}

fn uninstall(manager: Manager, args: &Uninstall) -> Result<()> {
    let path = manager.path(args.system)?;
    match file::held(&path, manager.comment())? {
        Held::Nothing => bail!("no service is installed: there is no {}", path.display()),
        Held::Changed if !args.force => bail!(
            "{} was changed by hand, or is not hob's; --force removes it nevertheless",
            path.display()
        ),
        Held::Ours | Held::Changed => {}
    }
    manager.stop(args.system)?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    manager.forget(args.system)?;
    out::say(&format!("removed {}; models and variables stay", path.display()));
    Ok(())
}

fn status(manager: Manager, args: &Status) -> Result<()> {
    let path = manager.path(args.system)?;
    let held = file::held(&path, manager.comment())?;
    let installed = !matches!(held, Held::Nothing);
    let state = if installed { manager.state(args.system)? } else { "not installed".to_owned() };
    let changed = matches!(held, Held::Changed);
    if args.json {
        let status = json!({
            "schema": 1, "file": path, "installed": installed, "changed": changed, "state": state,
        });
        return out::print_json(&status);
    }
    let note = if changed { ", changed by hand" } else { "" };
    match installed {
        true => out::print(&format!("{state} ({}{note})\n", path.display())),
        false => out::print(&format!("not installed (there is no {})\n", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(system: bool) -> Service {
        let home = if system { "/etc/hob" } else { "/home/ann lee/.config/hob" };
        Service {
            program: "/opt/hob 1/bin/hob".into(),
            flags: ["--host", "0.0.0.0:11434", "--allow-host", "a\"b$c%d\\e"]
                .map(Into::into)
                .into(),
            system,
            user: None,
            home: None,
            variables: format!("{home}/serve.env").into(),
            log: "/home/ann lee/Library/Logs/hob.log".into(),
            grace: 30,
        }
    }

    /// The file as it should be; `HOB_BLESS=1` writes what is into it, to be looked at.
    #[track_caller]
    fn is(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/service").join(name);
        if std::env::var_os("HOB_BLESS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
    }

    #[test]
    fn units_are_as_they_should_be() {
        let unit = |service: &Service| systemd::unit(service).unwrap();
        let user = Service { home: Some("/data/my models".into()), ..service(false) };
        is("user.service", &unit(&user));
        is("system.service", &unit(&service(true)));
        let named = Service {
            user: Some("ann".into()),
            home: Some("/data/models".into()),
            ..service(true)
        };
        is("system-user.service", &unit(&named));
    }

    #[test]
    fn plists_are_as_they_should_be() {
        let plist = |service: &Service| launchd::plist(service).unwrap();
        let flags = vec!["--allow-origin".to_owned(), "https://a.example/?<&>".to_owned()];
        is("user.plist", &plist(&Service { flags, ..service(false) }));
        let named = Service { user: Some("_hob".into()), ..service(true) };
        is("system.plist", &plist(&named));
    }

    #[test]
    fn what_cannot_be_written_down_is_refused() {
        let flags = vec!["--host\n[Service]".to_owned()];
        let service = Service { flags, ..service(false) };
        assert!(systemd::unit(&service).unwrap_err().to_string().contains("control characters"));
        assert!(launchd::plist(&service).unwrap_err().to_string().contains("control characters"));
    }
}
