//! The cache folder and the ways into it: pip, npm and apt-get, each run as the user would. What was
//! downloaded stays in `dl/` under its own name. Files appear under their names only when they are whole.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use crate::sh;

/// A source distribution on PyPI.
struct Sdist {
    /// As its files are named.
    package: &'static str,
    version: &'static str,
    /// The module that would build it.
    backend: &'static str,
    sha256: &'static str,
}

/// Holds llama.cpp.
const LLAMA: Sdist = Sdist {
    package: "llama_cpp_python",
    version: "0.3.36",
    backend: "scikit_build_core/build",
    sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
};

/// Holds chat templates for tool calls.
const VLLM: Sdist = Sdist {
    package: "vllm",
    version: "0.33.0",
    backend: "setuptools/build_meta",
    sha256: "f4c33c2503d52bb411146afa9618a4f48bed68912f617e6803ac8d76e4c74112",
};

/// The folder that assets live in.
pub struct Cache {
    pub root: PathBuf,
    /// What was downloaded, as it came.
    dl: PathBuf,
}

impl Cache {
    /// The cache in this folder, which is made where it is missing.
    pub fn open(root: PathBuf) -> Result<Self> {
        let dl = root.join("dl");
        for dir in [&dl, &root.join(".stamps")] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(Cache { root, dl })
    }

    /// Writes a file of the cache; it gets its name when `fill` has succeeded.
    pub fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.root.join(name);
        let part = self.root.join(format!("{name}.part-{}", std::process::id()));
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        let written = File::create(&part).map_err(anyhow::Error::from).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            fill(&mut out)?;
            Ok(out.flush()?)
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&part);
            return Err(e).with_context(|| format!("cannot write {}", path.display()));
        }
        fs::rename(&part, &path)?;
        Ok(path)
    }

    /// Pure Python wheels of one version, from PyPI; returned in the order of their names.
    pub fn wheels(&self, names: &[String], version: &str) -> Result<Vec<PathBuf>> {
        let file = |name: &String| {
            self.dl.join(format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")))
        };
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !file(name).exists())
            .map(|name| format!("{name}=={version}"))
            .collect();
        if !missing.is_empty() {
            self.download(pip().args(["--only-binary", ":all:"]).args(&missing), "-d")?;
        }
        let files: Vec<PathBuf> = names.iter().map(file).collect();
        files.into_iter().map(whole).collect()
    }

    /// The source distribution that holds llama.cpp.
    pub fn llama_sdist(&self) -> Result<impl Read + use<>> {
        self.sdist(&LLAMA)
    }

    /// The source distribution of vLLM.
    pub fn vllm_sdist(&self) -> Result<impl Read + use<>> {
        self.sdist(&VLLM)
    }

    /// A source distribution, its hash checked.
    fn sdist(&self, sdist: &Sdist) -> Result<impl Read + use<>> {
        let Sdist { package, version, .. } = sdist;
        let path = self.dl.join(format!("{package}-{version}.tar.gz"));
        if !path.exists() {
            let backend = self.no_backend(sdist)?;
            let mut pip = pip();
            pip.args(["--no-build-isolation", "--no-binary", ":all:"]);
            pip.arg(format!("{package}=={version}")).env("PYTHONPATH", &backend.dir);
            self.download(&mut pip, "-d")?;
        }
        let (_, sha256) = super::digest(&whole(path.clone())?)?;
        ensure!(
            sha256 == sdist.sha256,
            "{} has sha256 {sha256}, expected {}; remove it and run again",
            path.display(),
            sdist.sha256
        );
        gunzip(&path)
    }

    /// A build backend that only says what the package is: pip asks before it keeps the archive, and the real one
    /// may want gigabytes to answer.
    fn no_backend(&self, sdist: &Sdist) -> Result<Part> {
        let Sdist { package, version, backend, .. } = sdist;
        let part = Part::named(&self.dl, "backend")?;
        let module = part.dir.join(format!("{backend}.py"));
        let folder = module.parent().unwrap_or(&part.dir);
        fs::create_dir_all(folder)?;
        fs::write(folder.join("__init__.py"), "")?;
        let code = format!(
            "import os\n\n\n\
             def prepare_metadata_for_build_wheel(folder, settings=None):\n    \
                 name = '{package}-{version}.dist-info'\n    \
                 os.mkdir(os.path.join(folder, name))\n    \
                 with open(os.path.join(folder, name, 'METADATA'), 'w') as out:\n        \
                     out.write('Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n')\n    \
                 return name\n"
        );
        fs::write(module, code)?;
        Ok(part)
    }

    /// A package from npm's registry.
    pub fn npm(&self, name: &str, version: &str) -> Result<impl Read> {
        // As npm names the file of a package with a scope.
        let file = name.trim_start_matches('@').replace('/', "-");
        let path = self.dl.join(format!("{file}-{version}.tgz"));
        if !path.exists() {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", &format!("{name}@{version}")]);
            self.download(&mut npm, "--pack-destination")?;
        }
        gunzip(&whole(path)?)
    }

    /// The files of a Debian package that isn't installed for this: its content as a tar stream.
    pub fn debian(&self, name: &str) -> Result<impl Read> {
        let found = || -> Result<Option<PathBuf>> {
            let start = format!("{name}_");
            let files = fs::read_dir(&self.dl)?.collect::<io::Result<Vec<_>>>()?;
            let mut files: Vec<PathBuf> = files.iter().map(fs::DirEntry::path).collect();
            files.retain(|p| {
                let file = p.file_name().unwrap_or_default().to_string_lossy();
                file.starts_with(&start) && file.ends_with(".deb")
            });
            files.sort();
            Ok(files.pop())
        };
        if found()?.is_none() {
            self.apt_download(name)?;
        }
        let deb = found()?.with_context(|| format!("apt-get download {name} left no package"))?;
        let tar = sh::output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb))?;
        Ok(io::Cursor::new(tar))
    }

    /// `apt-get download`, after `apt-get update` where the package lists are missing.
    fn apt_download(&self, name: &str) -> Result<()> {
        let apt = |verb: &str| {
            let mut cmd = Command::new("apt-get");
            cmd.args(["-q", "-o", "APT::Sandbox::User=root", verb]);
            cmd
        };
        let part = Part::new(&self.dl)?;
        let download = || sh::output(apt("download").arg(name).current_dir(&part.dir));
        if download().is_err() {
            sh::output(&mut apt("update"))
                .context("the texts are Debian packages: they need apt-get with package lists")?;
            download()?;
        }
        part.keep(&self.dl)
    }

    /// Runs a client that puts files into the folder after `option`, then takes them over.
    fn download(&self, client: &mut Command, option: &str) -> Result<()> {
        let part = Part::new(&self.dl)?;
        sh::output(client.arg(option).arg(&part.dir))?;
        part.keep(&self.dl)
    }

    /// Joins one file of each zip archive, the one with this end of its name, to one file of the cache.
    pub fn unzip_joined(&self, zips: &[PathBuf], end: &str, name: &str) -> Result<PathBuf> {
        self.write(name, |out| {
            for path in zips {
                let mut zip = zip::ZipArchive::new(BufReader::new(File::open(path)?))
                    .with_context(|| format!("{} is damaged; remove it", path.display()))?;
                let entry = zip.file_names_raw().position(|n| n.ends_with(end.as_bytes()));
                let entry = entry.with_context(|| format!("no {end} in {}", path.display()))?;
                io::copy(&mut zip.by_index(entry)?, out)?;
            }
            Ok(())
        })
    }
}

/// A folder for a download under way; it goes when this goes.
struct Part {
    dir: PathBuf,
}

impl Part {
    fn new(dl: &Path) -> Result<Self> {
        Self::named(dl, "part")
    }

    fn named(dl: &Path, name: &str) -> Result<Self> {
        let dir = dl.join(format!(".{name}-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Part { dir })
    }

    /// Moves what came into `dl`.
    fn keep(self, dl: &Path) -> Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            fs::rename(entry.path(), dl.join(entry.file_name()))?;
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn pip() -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip
}

fn whole(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "the client succeeded, but there is no {}", path.display());
    Ok(path)
}

fn gunzip(path: &Path) -> Result<impl Read + use<>> {
    Ok(GzDecoder::new(BufReader::new(File::open(path)?)))
}

/// Calls `f` with the path and the content of each plain file of a tar stream.
pub fn each_file(
    tar: impl Read,
    mut f: impl FnMut(&str, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            f(&path, &mut entry)?;
        }
    }
    Ok(())
}

/// The content of the one file whose path ends so.
pub fn one_file(tar: impl Read, end: &str) -> Result<Vec<u8>> {
    let mut found = None;
    each_file(tar, |path, content| {
        if path.ends_with(end) {
            content.read_to_end(found.insert(Vec::new()))?;
        }
        Ok(())
    })?;
    match found {
        Some(bytes) => Ok(bytes),
        None => bail!("the archive has no {end}"),
    }
}
