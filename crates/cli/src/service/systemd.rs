//! The unit for systemd. One for the whole machine runs as a user that systemd makes, and sees nothing but its own folder; one for a user has
//! only those walls that need no namespaces, which not every system gives to users.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::Service;

/// Walls that every unit has.
const WALLS: &str = "\
UMask=0077
NoNewPrivileges=true
LockPersonality=true
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
";

/// Walls of a unit for the whole machine. Devices stay, for accelerators.
const SYSTEM_WALLS: &str = "\
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
ProtectProc=invisible
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictNamespaces=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// The unit.
///
/// # Errors
/// When a path or flag has control characters.
pub fn unit(service: &Service) -> Result<String> {
    let mut unit = String::from("[Unit]\nDescription=hob: language models for programs\n");
    if service.system {
        unit += "Wants=network-online.target\nAfter=network-online.target\n";
    }
    unit += "StartLimitIntervalSec=60\nStartLimitBurst=5\n\n[Service]\nType=exec\nExecStart=";
    // A command's words may have variables, which begin with a dollar.
    unit += &word(&service.program.to_string_lossy().replace('$', "$$"))?;
    unit += " serve";
    for flag in &service.flags {
        unit.push(' ');
        unit += &word(&flag.replace('$', "$$"))?;
    }
    unit.push('\n');
    owner(service, &mut unit)?;
    // Its own variables come last, so that they count.
    let variables = service.variables.to_string_lossy();
    let _ = writeln!(unit, "EnvironmentFile=-{}", path(&variables)?);
    // Wrong flags do not become right by another start.
    unit += "Restart=on-failure\nRestartSec=2\nRestartPreventExitStatus=2\n";
    // The first signal lets answers finish.
    let _ = writeln!(unit, "TimeoutStopSec={}", service.grace.saturating_add(10));
    unit += "KillMode=mixed\nLimitNOFILE=65536\n";
    unit += WALLS;
    if service.system {
        unit += SYSTEM_WALLS;
    }
    let target = if service.system { "multi-user.target" } else { "default.target" };
    let _ = write!(unit, "\n[Install]\nWantedBy={target}\n\n");
    Ok(unit)
}

/// Whose it is, and where its models are.
fn owner(service: &Service, unit: &mut String) -> Result<()> {
    let home = service.home.as_ref().map(|home| home.to_string_lossy());
    match (&service.user, service.system) {
        (Some(user), _) => {
            let _ = writeln!(unit, "User={}", word(user)?);
        }
        (None, true) => *unit += "DynamicUser=true\n",
        (None, false) => {}
    }
    match (home, service.system) {
        (Some(home), system) => {
            let _ = writeln!(unit, "Environment={}", word(&format!("HOB_HOME={home}"))?);
            if system {
                let _ = writeln!(unit, "ReadWritePaths={}", word(&home)?);
            }
        }
        // systemd makes the folder, and lets it be written.
        (None, true) => *unit += "StateDirectory=hob\nEnvironment=HOB_HOME=/var/lib/hob\n",
        (None, false) => {}
    }
    Ok(())
}

/// A word of a line that systemd splits into words: quotes and specifiers have no meaning in it.
fn word(text: &str) -> Result<String> {
    let text = path(text)?.replace('\\', "\\\\").replace('"', "\\\"");
    let plain = |c: char| c.is_alphanumeric() || "/._-:=,@+*%$".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text),
        false => Ok(format!("\"{text}\"")),
    }
}

/// A path that is a line of its own.
fn path(text: &str) -> Result<String> {
    if text.chars().any(char::is_control) {
        bail!("{text:?} has control characters, which a service's file cannot have");
    }
    Ok(text.replace('%', "%%"))
}
