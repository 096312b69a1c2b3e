//! Making a stored model of files that are here: by a copy (which shares its blocks with the original where the file system can), a hard
//! link or a reference. What is in the files is the caller's to tell. A file that a store named by its digest is not read again for it.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::Progress;
use crate::digest::Digest;
use crate::error::{HubError, SourceError, io_error};
use crate::local::Facts;
use crate::manifest::{Config, Kind, Layer, Manifest};
use crate::name::ModelName;
use crate::shared::{LocalFile, digest_by_name, gguf_files_in};
use crate::source::{Listed, Variant, recipe_named, select_of, variants_of};
use crate::store::{Linking, Locks, Store, Stored, hash};

/// The files of a model, not yet read.
struct Found {
    recipe: String,
    /// Weights in their order, then the vision tower if there is one.
    files: Vec<(Kind, LocalFile)>,
}

/// Stores the model at a path under this name: a file in GGUF, any part of a split one, or a folder that holds one model. Copies it unless
/// `linking` says how to refer to it. `describe` is asked what the weights are, before they are read.
///
/// # Errors
/// `NotImportable` when there is not exactly one whole model, or it changes meanwhile; `NoSpace`, `Io`.
pub(crate) fn import(
    store: &Store,
    path: &Path,
    name: &ModelName,
    linking: Option<Linking>,
    describe: &dyn Fn(&[PathBuf]) -> Option<Facts>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Stored, HubError> {
    let found = find(path)?;
    let weights: Vec<PathBuf> = of_weights(&found).map(|file| file.path.clone()).collect();
    let config = config(&found, describe(&weights).unwrap_or_default());
    let (locks, layers) = take(store, &found, linking, progress)?;
    let layer = config.layer();
    let config_lock = store.lock(&[layer.digest], || ())?;
    store.add_as(&config_lock, &layer, &config.to_bytes())?;
    let manifest = Manifest::new(layer, layers);
    store.commit(&locks.with(config_lock), name, &manifest.to_bytes())
}

/// The files of the model at a path, and one more for each further path, as blobs of the store, locked until a manifest names them.
/// Whatever may be wrong with the files is found before any of them is taken.
///
/// # Errors
/// As `import`.
pub(crate) fn take_all(
    store: &Store,
    base: Option<&Path>,
    more: &[(Kind, PathBuf)],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Locks, Vec<Layer>), HubError> {
    let mut found = match base {
        Some(path) => find(path)?,
        None => Found { recipe: String::new(), files: Vec::new() },
    };
    for (kind, path) in more {
        let meta = fs::metadata(path).map_err(io_error("read", path))?;
        if !meta.is_file() {
            let reason = "it is no file".to_owned();
            return Err(HubError::NotImportable { path: path.clone(), reason });
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = digest_by_name(path);
        found.files.push((*kind, LocalFile::new(name.to_owned(), path.clone(), &meta, digest)));
    }
    take(store, &found, Some(Linking::Hard), progress)
}

fn take(
    store: &Store,
    found: &Found,
    linking: Option<Linking>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Locks, Vec<Layer>), HubError> {
    let digests = read(store, found, progress)?;
    let layers: Vec<Layer> = found.files.iter().zip(&digests).map(layer).collect();
    let locks = store.lock(&digests, || progress(Progress::Waiting))?;
    let missing = || found.files.iter().zip(&layers).filter(|(_, layer)| !store.has(layer));
    if linking.is_none() {
        store.require_space(missing().map(|(_, layer)| layer.size).sum())?;
    }
    for ((_, file), layer) in missing() {
        if store.digest_of_upload(&file.path).is_some() {
            store.adopt(&locks, &file.path, &layer.digest)?;
            continue;
        }
        unchanged(file)?;
        match linking {
            Some(linking) => store.link(&locks, &file.path, &layer.digest, linking)?,
            None => copy(store, &locks, file, layer)?,
        }
    }
    Ok((locks, layers))
}

fn layer(((kind, file), digest): (&(Kind, LocalFile), &Digest)) -> Layer {
    Layer::new(*kind, *digest, file.bytes)
}

fn of_weights(found: &Found) -> impl Iterator<Item = &LocalFile> {
    found.files.iter().filter(|(kind, _)| *kind == Kind::Model).map(|(_, file)| file)
}

/// Which files a path means.
fn find(path: &Path) -> Result<Found, HubError> {
    let refused = |reason: String| HubError::NotImportable { path: path.to_owned(), reason };
    let meta = fs::metadata(path).map_err(io_error("read", path))?;
    if meta.is_dir() {
        let files = gguf_files_in(path);
        return match variants_of(&files).as_slice() {
            [] => Err(refused("there is no whole model in GGUF in it".to_owned())),
            [variant] => Ok(of_variant(variant, variant.projector)),
            several => {
                let first = |v: &Variant<LocalFile>| v.files.first().map(|f| f.name.clone());
                let names: Vec<String> = several.iter().filter_map(first).collect();
                Err(refused(format!("it holds several models; give one of {}", names.join(", "))))
            }
        };
    }
    if !meta.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let beside = gguf_files_in(path.parent().unwrap_or(Path::new(".")));
    let holds = |v: &Variant<LocalFile>| v.files.iter().any(|file| file.name == name);
    if let Some(variant) = variants_of(&beside).into_iter().find(holds) {
        return Ok(of_variant(&variant, None));
    }
    if let Err(e @ SourceError::Incomplete { .. }) = select_of(&beside, name) {
        return Err(refused(e.to_string()));
    }
    let file = LocalFile::new(name.to_owned(), path.to_owned(), &meta, digest_by_name(path));
    let recipe = recipe_named(name).unwrap_or_default();
    Ok(Found { recipe, files: vec![(Kind::Model, file)] })
}

fn of_variant(variant: &Variant<LocalFile>, projector: Option<&LocalFile>) -> Found {
    let weights = variant.files.iter().map(|file| (Kind::Model, (*file).clone()));
    let tower = projector.map(|file| (Kind::Projector, file.clone()));
    let recipe = variant.files.first().and_then(|f| recipe_named(f.path())).unwrap_or_default();
    Found { recipe, files: weights.chain(tower).collect() }
}

/// The digest of each file.
fn read(
    store: &Store,
    found: &Found,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Digest>, HubError> {
    let total = found.files.iter().map(|(_, file)| file.bytes).sum();
    let mut before = 0;
    let mut digests = Vec::new();
    for (_, file) in &found.files {
        let mut told = |bytes: u64| {
            // A file that grows meanwhile is noticed later.
            let done = (before + bytes).min(total);
            progress(Progress::Verifying { done, total });
        };
        digests.push(match file.digest.or_else(|| store.digest_of_upload(&file.path)) {
            Some(digest) => digest,
            None => hash(&file.path, &mut told)?,
        });
        unchanged(file)?;
        before += file.bytes;
    }
    Ok(digests)
}

/// Fails when a file is no longer what it was when it was found.
fn unchanged(file: &LocalFile) -> Result<(), HubError> {
    let LocalFile { path, bytes, modified, .. } = file;
    let same =
        |meta: &Metadata| meta.len() == *bytes && meta.modified().is_ok_and(|now| now == *modified);
    match fs::metadata(path).map_err(io_error("read", path))? {
        meta if same(&meta) => Ok(()),
        _ => Err(HubError::NotImportable {
            path: path.clone(),
            reason: "it was written to meanwhile".to_owned(),
        }),
    }
}

fn copy(store: &Store, locks: &Locks, file: &LocalFile, layer: &Layer) -> Result<(), HubError> {
    let temporary = store.temporary();
    let copied = copy_to(&temporary, &file.path)
        .and_then(|()| unchanged(file))
        .and_then(|()| store.adopt(locks, &temporary, &layer.digest));
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn copy_to(to: &Path, from: &Path) -> Result<(), HubError> {
    fs::copy(from, to).map_err(io_error("write", to))?;
    // A copy of a file that may not be written to may not be either.
    #[cfg(unix)]
    {
        let ordinary = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(to, ordinary).map_err(io_error("write", to))?;
    }
    Ok(())
}

fn config(found: &Found, facts: Facts) -> Config {
    let or_else = |text: String, other: String| if text.is_empty() { other } else { text };
    let file = of_weights(found).next().map(|file| file.name.clone()).unwrap_or_default();
    let families = Some(facts.architecture.clone()).filter(|a| !a.is_empty());
    Config {
        model_format: "gguf".to_owned(),
        model_families: families.into_iter().collect(),
        model_family: facts.architecture,
        model_type: facts.parameter_size,
        file_type: or_else(facts.recipe, found.recipe.clone()),
        parameters: facts.parameters,
        licence: Some(facts.licence).filter(|l| !l.is_empty()),
        source: Some(or_else(facts.source, format!("file {file}"))),
        ..Config::default()
    }
}
