//! What starts services: systemd or launchd, through their own commands. When a command is missing or fails, the error says what is left to
//! be done by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::file::Comment;
use super::launchd::LABEL;

/// The unit's name.
const UNIT: &str = "hob.service";

/// A program that starts services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Of Linux.
    Systemd,
    /// Of macOS.
    Launchd,
}

impl Manager {
    /// The one of this system.
    pub fn here() -> Option<Manager> {
        match std::env::consts::OS {
            "linux" => Some(Manager::Systemd),
            "macos" => Some(Manager::Launchd),
            _ => None,
        }
    }

    /// How its files' comments begin and end.
    pub fn comment(self) -> Comment {
        match self {
            Manager::Systemd => ("# ", ""),
            Manager::Launchd => ("<!-- ", " -->"),
        }
    }

    /// The service's file.
    ///
    /// # Errors
    /// When the user has no home.
    pub fn path(self, system: bool) -> Result<PathBuf> {
        Ok(match (self, system) {
            (Manager::Systemd, true) => Path::new("/etc/systemd/system").join(UNIT),
            (Manager::Systemd, false) => config()?.join("systemd/user").join(UNIT),
            (Manager::Launchd, true) => {
                Path::new("/Library/LaunchDaemons").join(format!("{LABEL}.plist"))
            }
            (Manager::Launchd, false) => {
                home()?.join("Library/LaunchAgents").join(format!("{LABEL}.plist"))
            }
        })
    }

    /// The file of variables.
    ///
    /// # Errors
    /// When the user has no home.
    pub fn variables(self, system: bool) -> Result<PathBuf> {
        let folder = if system { PathBuf::from("/etc/hob") } else { config()?.join("hob") };
        Ok(folder.join("serve.env"))
    }

    /// Where launchd puts what is told; systemd has its journal.
    ///
    /// # Errors
    /// When the user has no home.
    pub fn log(self, system: bool) -> Result<PathBuf> {
        let folder =
            if system { PathBuf::from("/Library/Logs") } else { home()?.join("Library/Logs") };
        Ok(folder.join("hob.log"))
    }

    /// Starts the service whose file was written, now and from now on.
    ///
    /// # Errors
    /// When a command is missing or fails.
    pub fn start(self, system: bool, path: &Path) -> Result<()> {
        match self {
            Manager::Systemd => {
                systemctl(system, &["daemon-reload"])?;
                systemctl(system, &["enable", UNIT])?;
                systemctl(system, &["restart", UNIT])
            }
            Manager::Launchd => {
                let domain = domain(system)?;
                // It may run from before; that it does not is no error.
                let _ = run(&["launchctl", "bootout", &format!("{domain}/{LABEL}")]);
                checked(&["launchctl", "bootstrap", &domain, &path.to_string_lossy()])
            }
        }
    }

    /// Ends the service, now and from now on.
    ///
    /// # Errors
    /// When a command is missing or fails.
    pub fn stop(self, system: bool) -> Result<()> {
        match self {
            Manager::Systemd => systemctl(system, &["disable", "--now", UNIT]),
            Manager::Launchd => {
                let target = format!("{}/{LABEL}", domain(system)?);
                match run(&["launchctl", "print", &target])?.status.success() {
                    true => checked(&["launchctl", "bootout", &target]),
                    false => Ok(()),
                }
            }
        }
    }

    /// After the file was removed.
    ///
    /// # Errors
    /// When a command is missing or fails.
    pub fn forget(self, system: bool) -> Result<()> {
        match self {
            Manager::Systemd => systemctl(system, &["daemon-reload"]),
            Manager::Launchd => Ok(()),
        }
    }

    /// How it is, in the manager's word.
    ///
    /// # Errors
    /// When the command is missing.
    pub fn state(self, system: bool) -> Result<String> {
        match self {
            Manager::Systemd => {
                let mut words = vec!["systemctl"];
                if !system {
                    words.push("--user");
                }
                words.extend(["is-active", UNIT]);
                // Its exit code tells the same as its word.
                let output = run(&words)?;
                let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                match word.is_empty() {
                    true => bail!("systemctl says: {}", said(&output)),
                    false => Ok(word),
                }
            }
            Manager::Launchd => {
                let output = run(&["launchctl", "print", &format!("{}/{LABEL}", domain(system)?)])?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let state = text.lines().find_map(|line| line.trim().strip_prefix("state = "));
                Ok(state.unwrap_or("inactive").to_owned())
            }
        }
    }
}

fn home() -> Result<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute()).context("you have no home folder")
}

fn config() -> Result<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    match set.filter(|folder| folder.is_absolute()) {
        Some(folder) => Ok(folder),
        None => Ok(home()?.join(".config")),
    }
}

/// launchd's name for whose services are meant.
fn domain(system: bool) -> Result<String> {
    if system {
        return Ok("system".to_owned());
    }
    let output = run(&["id", "-u"])?;
    Ok(format!("gui/{}", String::from_utf8_lossy(&output.stdout).trim()))
}

fn systemctl(system: bool, words: &[&str]) -> Result<()> {
    let mut all = vec!["systemctl"];
    if !system {
        all.push("--user");
    }
    all.extend(words);
    checked(&all)
}

fn run(words: &[&str]) -> Result<Output> {
    let (program, arguments) = words.split_first().context("no command")?;
    let output = Command::new(program).args(arguments).output();
    output.with_context(|| format!("cannot run {program}; {}", by_hand(words)))
}

fn checked(words: &[&str]) -> Result<()> {
    let output = run(words)?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{} says: {}; {}", words.join(" "), said(&output), by_hand(words)),
    }
}

fn by_hand(words: &[&str]) -> String {
    let verb = words.join(" ");
    format!(
        "what is left is to be done by hand: `{verb}` and what follows it, or start `hob serve` by other means"
    )
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { output.status.to_string() } else { text }
}
