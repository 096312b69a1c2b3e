//! The cache folder with the clients' environments: a Python environment per requirements file, one npm folder. A copy of the
//! list of packages lies beside what was made of it; when the list changes, it is made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// What a script runs in.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The environment made of `requirements-NAME.txt`.
    Python(&'static str),
    /// The npm folder.
    Node,
    /// Python that runs a program of the npm folder.
    Agent(&'static str),
}

impl Kind {
    /// The name of its requirements file.
    pub fn python(self) -> Option<&'static str> {
        match self {
            Kind::Python(name) | Kind::Agent(name) => Some(name),
            Kind::Node => None,
        }
    }
}

/// The cache folder.
pub struct Place {
    /// `HOB_CLIENTS`, else `~/.cache/hob-clients`.
    pub root: PathBuf,
    /// What scripts and server write to their error output.
    pub logs: PathBuf,
}

/// The folder of the scripts.
pub fn scripts() -> PathBuf {
    sh::root().join("clients")
}

impl Place {
    /// Opens the folder, or makes it.
    pub fn open() -> Result<Place> {
        let root = sh::cache_dir("HOB_CLIENTS", "hob-clients")?;
        let logs = root.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Place { root, logs })
    }

    /// Makes what a script of this kind needs, unless it is there.
    pub fn prepare(&self, kind: Kind) -> Result<()> {
        if let Some(name) = kind.python() {
            self.make_python(name)?;
        }
        match kind {
            Kind::Python(_) => Ok(()),
            Kind::Node | Kind::Agent(_) => self.make_node(),
        }
    }

    /// The command that runs a script.
    pub fn command(&self, kind: Kind, file: &str) -> Result<Command> {
        let Some(name) = kind.python() else {
            // Packages are looked for beside the script, so it goes where they are.
            let node = self.root.join("node");
            for name in [file, "common.mjs"] {
                fs::copy(scripts().join(name), node.join(name))?;
            }
            let mut cmd = Command::new("node");
            cmd.arg(node.join(file)).current_dir(&node);
            return Ok(cmd);
        };
        let mut cmd = Command::new(self.python(name));
        cmd.arg(scripts().join(file)).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(cmd)
    }

    fn python(&self, name: &str) -> PathBuf {
        let (folder, program) =
            if cfg!(windows) { ("Scripts", "python.exe") } else { ("bin", "python") };
        self.root.join(name).join(folder).join(program)
    }

    fn make_python(&self, name: &str) -> Result<()> {
        let list = scripts().join(format!("requirements-{name}.txt"));
        // What comes without its dependencies.
        let alone = scripts().join(format!("requirements-{name}-alone.txt"));
        let alone = alone.exists().then_some(alone);
        let folder = self.root.join(name);
        let lists: Vec<&Path> = [&list].into_iter().chain(&alone).map(PathBuf::as_path).collect();
        made(&folder, &lists, || {
            let venv = ["-m", "venv", "--clear"];
            sh::run(Command::new("python3").args(venv).arg(&folder))?;
            for list in &lists {
                let mut pip = Command::new(self.python(name));
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
                if Some(*list) == alone.as_deref() {
                    pip.arg("--no-deps");
                }
                sh::run(pip.arg("--requirement").arg(list))?;
            }
            Ok(())
        })
    }

    fn make_node(&self) -> Result<()> {
        let list = scripts().join("package.json");
        let folder = self.root.join("node");
        made(&folder, &[&list], || {
            fs::create_dir_all(&folder)?;
            fs::copy(&list, folder.join("package.json"))?;
            let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
            npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
            sh::run(npm.current_dir(&folder))
        })
    }
}

/// Makes a folder of lists of packages unless the copy of the lists in it says that it is there.
fn made(folder: &Path, lists: &[&Path], make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = folder.join("made-of");
    let mut wanted = Vec::new();
    for list in lists {
        wanted.extend(fs::read(list).with_context(|| format!("cannot read {}", list.display()))?);
    }
    if fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    eprintln!("make    {}", folder.display());
    make()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_made_once_and_again_when_its_list_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, list) = (dir.path().join("env"), dir.path().join("list"));
        let mut times = 0;
        let mut call = |text: &str| {
            fs::write(&list, text).unwrap();
            made(&folder, &[&list], || {
                times += 1;
                Ok(fs::create_dir_all(&folder)?)
            })
            .unwrap();
            times
        };
        assert_eq!(call("a==1"), 1);
        assert_eq!(call("a==1"), 1);
        assert_eq!(call("a==2"), 2);
    }

    #[test]
    fn what_failed_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, list) = (dir.path().join("env"), dir.path().join("list"));
        fs::write(&list, "a").unwrap();
        assert!(made(&folder, &[&list], || anyhow::bail!("no network")).is_err());
        assert!(!folder.join("made-of").exists());
    }
}
