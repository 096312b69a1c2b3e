//! The property list for launchd. launchd reads no file of variables, so a shell does, and then becomes hob.

use anyhow::{Result, bail};

use super::Service;

/// The service's name there.
pub const LABEL: &str = "hob.serve";

/// Reads the file of variables, `$0`, if there is one, and becomes the rest.
const SHELL: &str = "set -a; if [ -r \"$0\" ]; then . \"$0\"; fi; exec \"$@\"";

/// The property list.
///
/// # Errors
/// When a path or flag has control characters.
pub fn plist(service: &Service) -> Result<String> {
    let variables = service.variables.to_string_lossy();
    let program = service.program.to_string_lossy();
    let mut words = vec!["/bin/sh", "-c", SHELL, &variables, &program, "serve"];
    words.extend(service.flags.iter().map(String::as_str));
    let mut arguments = String::new();
    for word in words {
        arguments += &format!("        {}\n", string(word)?);
    }
    let mut entries = vec![
        ("Label", string(LABEL)?),
        ("ProgramArguments", format!("<array>\n{arguments}    </array>")),
        ("RunAtLoad", "<true/>".to_owned()),
        // Started again when it fails, not when it was ended.
        ("KeepAlive", "<dict><key>SuccessfulExit</key><false/></dict>".to_owned()),
        // The first signal lets answers finish.
        ("ExitTimeOut", format!("<integer>{}</integer>", service.grace.saturating_add(10))),
        ("ProcessType", string("Interactive")?),
        ("Umask", "<integer>63</integer>".to_owned()),
        (
            "SoftResourceLimits",
            "<dict><key>NumberOfFiles</key><integer>65536</integer></dict>".to_owned(),
        ),
        ("StandardErrorPath", string(&service.log.to_string_lossy())?),
    ];
    if let Some(user) = &service.user {
        entries.push(("UserName", string(user)?));
    }
    if let Some(home) = home(service) {
        let home = string(&home)?;
        let set = format!("<dict><key>HOB_HOME</key>{home}</dict>");
        entries.push(("EnvironmentVariables", set));
    }
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
        \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n",
    );
    for (key, value) in entries {
        text += &format!("    <key>{key}</key>\n    {value}\n");
    }
    text += "</dict>\n</plist>\n";
    Ok(text)
}

fn home(service: &Service) -> Option<String> {
    match &service.home {
        Some(home) => Some(home.to_string_lossy().into_owned()),
        None => service.system.then(|| "/var/lib/hob".to_owned()),
    }
}

fn string(text: &str) -> Result<String> {
    if text.chars().any(char::is_control) {
        bail!("{text:?} has control characters, which a service's file cannot have");
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(format!("<string>{text}</string>"))
}
