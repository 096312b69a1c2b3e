//! From a MODEL argument to an open file: found in the store, pulled when the verb says so, or given by its path.

use anyhow::{Result, bail};
use hob_hub::{Hub, HubError, LocalModel};
use hob_server::ModelFile;

use crate::progress::PullBar;
use crate::{folder, pull};

/// A model that is here.
///
/// # Errors
/// Also when the catalogue has it but it was not pulled: only `run` and `pull` fetch.
pub fn open(hub: &Hub, reference: &str) -> Result<ModelFile> {
    match find(hub, reference)? {
        Some(local) => read(hub, local),
        None => {
            bail!("'{reference}' is not on this machine yet; fetch it with `hob pull {reference}`")
        }
    }
}

/// A model that is here or can be fetched.
pub fn open_or_pull(hub: &Hub, reference: &str) -> Result<ModelFile> {
    match find(hub, reference) {
        Ok(Some(local)) => read(hub, local),
        Ok(None) => read(hub, pull::pull(hub, reference, &pull::Order::default())?),
        // A registry may know what the catalogue does not.
        Err(e) if matches!(e.downcast_ref(), Some(HubError::UnknownModel { .. })) => {
            read(hub, pull::pull(hub, reference, &pull::Order::default())?)
        }
        Err(e) => Err(e),
    }
}

/// What is here: a file, a stored model, or a Hugging Face folder, which is converted first.
fn find(hub: &Hub, reference: &str) -> Result<Option<LocalModel>> {
    match folder::is_checkpoint(reference) {
        true => folder::converted(hub, reference).map(Some),
        false => Ok(hub.find(reference)?),
    }
}

fn read(hub: &Hub, local: LocalModel) -> Result<ModelFile> {
    let mut bar = PullBar::new();
    let opened = ModelFile::read(hub, local, &mut |event| bar.show(event));
    bar.clear();
    Ok(opened?)
}
