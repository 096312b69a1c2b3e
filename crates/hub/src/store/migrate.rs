//! The layout's version, and the way up from older ones. `version` holds a number; a store without one is of version 1, which had one
//! JSON file per model, `manifests/NAME/TAG.json`. Each model is written in the new form before the old one goes, so a crash in
//! between, or two processes at once, leave nothing to repair. A store of a later version is refused, never guessed at.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Store, entries, read};
use crate::digest::Digest;
use crate::error::{HubError, io_error};
use crate::manifest::{Config, Kind, Layer, MAX_MANIFEST, Manifest};
use crate::name::ModelName;

/// The layout that this hob writes.
const VERSION: u32 = 2;

/// A model in version 1.
#[derive(Deserialize)]
struct Old {
    digest: Digest,
    bytes: u64,
    recipe: String,
    architecture: String,
    parameters: u64,
    licence: String,
    source: String,
}

impl Store {
    /// Brings an older store up to date before it is read. One that is not there, or of today, is left alone.
    ///
    /// # Errors
    /// `Version` when a later hob has written it; `Io` when it is old and cannot be written.
    pub fn refresh(&self) -> Result<(), HubError> {
        match self.version()? {
            Some(_) => Ok(()),
            None if self.old_models()?.is_empty() => Ok(()),
            None => self.prepare(),
        }
    }

    pub(super) fn migrate(&self) -> Result<(), HubError> {
        if self.version()?.is_some() {
            return Ok(());
        }
        for (name, path) in self.old_models()? {
            // One that cannot be read stays where it is; it was damaged before.
            let old = read(&path, MAX_MANIFEST).ok().and_then(|b| serde_json::from_slice(&b).ok());
            if let Some(old) = old {
                self.rewrite(&name, &old)?;
                self.fs.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        let (temporary, path) = (self.temporary(), self.version_path());
        let write = || {
            self.fs.write(&temporary, format!("{VERSION}\n").as_bytes())?;
            self.fs.sync(&temporary)?;
            self.fs.rename(&temporary, &path)
        };
        write().map_err(io_error("write", &path))?;
        self.sync_dir(&self.root)
    }

    fn rewrite(&self, name: &ModelName, old: &Old) -> Result<(), HubError> {
        let config = Config {
            model_format: "gguf".into(),
            model_family: old.architecture.clone(),
            model_families: vec![old.architecture.clone()],
            file_type: old.recipe.clone(),
            parameters: Some(old.parameters),
            licence: Some(old.licence.clone()),
            source: Some(old.source.clone()),
            ..Config::default()
        };
        let (content, config) = (config.to_bytes(), config.layer());
        let manifest = Manifest::new(config, vec![Layer::new(Kind::Model, old.digest, old.bytes)]);
        self.add_config(&manifest.config, &content)?;
        self.place(&self.manifest_path(name), &manifest.to_bytes())
    }

    /// As `add_as`, before there are locks: whoever migrates writes the same bytes.
    fn add_config(&self, layer: &Layer, content: &[u8]) -> Result<(), HubError> {
        if self.has(layer) {
            return Ok(());
        }
        let (temporary, blob) = (self.temporary(), self.blob(&layer.digest));
        let write = || {
            self.fs.write(&temporary, content)?;
            self.fs.sync(&temporary)?;
            self.fs.rename(&temporary, &blob)
        };
        write().map_err(io_error("write", &blob))?;
        self.sync_dir(&self.root.join("blobs"))
    }

    /// What the store says of its layout; `None` for version 1 and for a store that is not there.
    fn version(&self) -> Result<Option<u32>, HubError> {
        let path = self.version_path();
        let text = match read(&path, 64) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        match text.parse() {
            Ok(VERSION) => Ok(Some(VERSION)),
            _ => Err(HubError::Version { path: self.root.clone(), found: text, known: VERSION }),
        }
    }

    fn version_path(&self) -> PathBuf {
        self.root.join("version")
    }

    fn old_models(&self) -> Result<Vec<(ModelName, PathBuf)>, HubError> {
        let mut found = Vec::new();
        for (name, folder) in entries(&self.root.join("manifests"))? {
            for (file, path) in entries(&folder)? {
                let Some(tag) = file.strip_suffix(".json").filter(|_| path.is_file()) else {
                    continue;
                };
                let name = ModelName::parse(&format!("{name}:{tag}")).ok();
                found.extend(name.map(|name| (name, path)));
            }
        }
        Ok(found)
    }
}
