//! The slash commands, as in Ollama: text in, a command or a hint out. Pure; what they do is decided elsewhere.

use crate::answer::Think;

/// A command of the user.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Print this text.
    Help(&'static str),
    /// Leave.
    Bye,
    /// Forget the conversation.
    Clear,
    /// Change to another model.
    Load(String),
    /// Print a section.
    Show(Section),
    /// Change a setting.
    Set(Setting),
}

/// What `/show` can print.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Section {
    Info,
    Licence,
    Parameters,
    System,
    Template,
}

/// What `/set` can change.
#[derive(Debug, PartialEq)]
pub enum Setting {
    /// A sampling parameter by Ollama's name.
    Parameter(String, String),
    /// `num_ctx`: the model is loaded again.
    Context(usize),
    /// `num_thread`: the model is loaded again.
    Threads(usize),
    /// The system message.
    System(String),
    /// Timings after each answer.
    Verbose(bool),
    /// Whether models think before they answer.
    Think(Think),
    /// Remember what is typed.
    History(bool),
}

const HELP: &str = "\
Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load another model
  /clear          Clear session context
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use \"\"\" to begin and to end a multi-line message.

";

const HELP_SET: &str = "\
Available Commands:
  /set parameter <name> <value>   Set a parameter; /? parameter lists them
  /set system <text>              Set the system message
  /set think, /set nothink        Let a model that can think do so, or not
  /set verbose                    Show timings after each answer
  /set quiet                      Show no timings
  /set history                    Remember what is typed
  /set nohistory                  Do not remember what is typed

";

const HELP_SHOW: &str = "\
Available Commands:
  /show info         Show details of the model
  /show license      Show its licence
  /show parameters   Show the parameters that differ from the defaults
  /show system       Show the system message
  /show template     Show the chat template

";

const HELP_PARAMETER: &str = "\
Parameters:
  temperature <float>         Randomness; 0 always takes the likeliest token
  top_k <int>                 Choose among the k likeliest tokens; 0 for all
  top_p <float>               Choose among the likeliest tokens of this total probability
  min_p <float>               Leave out tokens less likely than this times the likeliest
  typical_p <float>           Choose among the tokens whose surprise is nearest the expected
  repeat_penalty <float>      Penalty for repetition; 1 for none
  repeat_last_n <int>         Tokens looked back at for repetition; -1 for all
  presence_penalty <float>    Penalty for tokens that occurred
  frequency_penalty <float>   Penalty for each occurrence
  seed <int>                  The same seed gives the same answer; -1 for a new one
  num_predict <int>           Tokens of an answer at most; -1 for no limit
  stop <text>                 Text that ends an answer; adds to those set before
  num_ctx <int>               Tokens of the context (loads the model again)
  num_thread <int>            Threads (loads the model again)

";

const HELP_SHORTCUTS: &str = "\
Keyboard shortcuts:
  Ctrl + a / Ctrl + e   To the beginning / end of the line
  Alt + b / Alt + f     A word back / forward
  Ctrl + k / Ctrl + u   Delete to the end / beginning of the line
  Ctrl + w              Delete the word before the cursor
  Ctrl + r              Search the history
  Ctrl + l              Clear the screen
  Ctrl + c              Stop the answer; twice at the prompt: exit
  Ctrl + d              Exit

";

impl Command {
    /// Reads a line that begins with a slash; `None` for any other, `Err` says what is wrong. A path (`/home/...`) is no command.
    pub fn parse(text: &str) -> Option<Result<Command, String>> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name = word.strip_prefix('/')?;
        if name.contains('/') {
            return None;
        }
        let rest = rest.trim();
        Some(match name {
            "?" | "help" => Ok(Command::Help(help(rest))),
            "bye" | "exit" => Ok(Command::Bye),
            "clear" => Ok(Command::Clear),
            "load" if rest.is_empty() => Err("Usage: /load <model>".to_owned()),
            "load" => Ok(Command::Load(rest.to_owned())),
            "show" => show(rest).map(Command::Show).ok_or_else(|| HELP_SHOW.to_owned()),
            "set" => set(rest).map(Command::Set),
            _ => Err(format!("Unknown command '/{name}'. Type /? for help")),
        })
    }
}

fn help(topic: &str) -> &'static str {
    match topic.trim_start_matches('/').split_whitespace().last() {
        Some("set") => HELP_SET,
        Some("show") => HELP_SHOW,
        Some("parameter") => HELP_PARAMETER,
        Some("shortcut" | "shortcuts") => HELP_SHORTCUTS,
        _ => HELP,
    }
}

fn show(section: &str) -> Option<Section> {
    Some(match section {
        "info" => Section::Info,
        "license" | "licence" => Section::Licence,
        "parameters" => Section::Parameters,
        "system" => Section::System,
        "template" => Section::Template,
        _ => return None,
    })
}

fn set(text: &str) -> Result<Setting, String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    Ok(match word {
        "verbose" => Setting::Verbose(true),
        "quiet" => Setting::Verbose(false),
        "think" => Setting::Think(Think::True),
        "nothink" => Setting::Think(Think::False),
        "history" => Setting::History(true),
        "nohistory" => Setting::History(false),
        "system" => Setting::System(unquoted(rest).to_owned()),
        "parameter" => return parameter(rest),
        _ => return Err(HELP_SET.to_owned()),
    })
}

fn parameter(text: &str) -> Result<Setting, String> {
    let Some((name, value)) = text.split_once(char::is_whitespace) else {
        return Err(HELP_PARAMETER.to_owned());
    };
    let value = unquoted(value.trim());
    let number = || match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("'{value}' is no value for {name}: expected a whole number above 0")),
    };
    Ok(match name {
        "num_ctx" => Setting::Context(number()?),
        "num_thread" => Setting::Threads(number()?),
        _ => Setting::Parameter(name.to_owned(), value.to_owned()),
    })
}

/// The text inside one pair of double quotes, or the text.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Command {
        Command::parse(text).unwrap().unwrap()
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(parse("/bye"), Command::Bye);
        assert_eq!(parse(" /exit "), Command::Bye);
        assert_eq!(parse("/load smollm2:135m"), Command::Load("smollm2:135m".into()));
        assert_eq!(parse("/show info"), Command::Show(Section::Info));
        assert_eq!(parse("/?"), Command::Help(HELP));
        assert_eq!(parse("/? /set"), Command::Help(HELP_SET));
        assert_eq!(parse("/help set parameter"), Command::Help(HELP_PARAMETER));
    }

    #[test]
    fn settings_are_read() {
        let set = |text: &str| match parse(text) {
            Command::Set(setting) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(set("/set system You are  a poet."), Setting::System("You are  a poet.".into()));
        assert_eq!(set("/set system \"Be brief\""), Setting::System("Be brief".into()));
        assert_eq!(set("/set parameter top_k 5"), Setting::Parameter("top_k".into(), "5".into()));
        assert_eq!(set("/set parameter num_ctx 4096"), Setting::Context(4096));
        assert_eq!(set("/set quiet"), Setting::Verbose(false));
        assert_eq!(set("/set nothink"), Setting::Think(Think::False));
        assert_eq!(set("/set nohistory"), Setting::History(false));
    }

    #[test]
    fn unclear_commands_get_a_hint() {
        for text in [
            "/nonsense",
            "/load",
            "/set",
            "/set parameter top_k",
            "/show x",
            "/set parameter num_ctx 0",
        ] {
            assert!(!Command::parse(text).unwrap().unwrap_err().is_empty(), "{text}");
        }
    }

    #[test]
    fn other_text_is_no_command() {
        for text in ["hello", "", "what is /dev/null", "/etc/passwd is a file", "1/2"] {
            assert!(Command::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn help_names_every_parameter() {
        for name in hob_server::PARAMETERS {
            assert!(HELP_PARAMETER.contains(&format!("\n  {name} ")), "{name}");
        }
    }
}
