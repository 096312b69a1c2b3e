//! The manifest of a model: the list of its layers by digest, in the format of OCI registries as Ollama uses it. One format for what a
//! registry sends, what a store keeps and what `push` sends, byte for byte. Unknown keys are passed over; a kind of layer that
//! this hob does not know is kept and not read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// Longest manifest that is read.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Most layers: models of single tensors have some thousands.
const MAX_LAYERS: usize = 20_000;
/// Longest layer.
const MAX_LAYER: u64 = 1 << 46;

/// Media type of a manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of the configuration, which every registry knows.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
/// What the media types of all other layers begin with.
const LAYER_TYPE: &str = "application/vnd.ollama.image.";

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Weights in GGUF; several are the parts of one split model, in their order.
    Model,
    /// A vision tower.
    Projector,
    /// LoRA weights in GGUF.
    Adapter,
    /// A smaller model that guesses for this one.
    Draft,
    /// A chat template in Go's template language.
    Template,
    /// A system prompt.
    System,
    /// Parameters, a JSON object.
    Params,
    /// Messages that every chat begins with, a JSON array.
    Messages,
    /// A licence's text.
    License,
    /// What the registry and the store say about the model.
    Config,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether it is a file of weights, which is fetched, and not a text, which may be made.
    pub fn is_weights(self) -> bool {
        matches!(self, Kind::Model | Kind::Projector | Kind::Adapter | Kind::Draft | Kind::Other)
    }
}

const KINDS: [(&str, Kind); 9] = [
    ("model", Kind::Model),
    ("projector", Kind::Projector),
    ("adapter", Kind::Adapter),
    ("draft", Kind::Draft),
    ("template", Kind::Template),
    ("system", Kind::System),
    ("params", Kind::Params),
    ("messages", Kind::Messages),
    ("license", Kind::License),
];

/// One blob of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layer {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// The model it was first part of, for registries that can mount it from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The file it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Layer {
    pub fn new(kind: Kind, digest: Digest, size: u64) -> Layer {
        let name = KINDS.iter().find(|(_, k)| *k == kind).map_or("other", |(name, _)| name);
        let media_type = format!("{LAYER_TYPE}{name}");
        Layer { media_type, digest, size, from: None, name: None }
    }

    pub fn kind(&self) -> Kind {
        if self.media_type == CONFIG_TYPE {
            return Kind::Config;
        }
        let name = self.media_type.strip_prefix(LAYER_TYPE);
        KINDS.iter().find(|(n, _)| Some(*n) == name).map_or(Kind::Other, |(_, kind)| *kind)
    }
}

/// A model's layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Layer,
    #[serde(default)]
    pub layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    pub fn new(config: Layer, layers: Vec<Layer>) -> Manifest {
        let annotations = BTreeMap::new();
        let media_type = MANIFEST_TYPE.to_owned();
        Manifest { schema_version: 2, media_type, config, layers, annotations }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// In words: no JSON, another version, a digest that is none, more or longer layers than a model has.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(format!("its manifest is longer than {MAX_MANIFEST} bytes"));
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| format!("its manifest is malformed: {e}"))?;
        if manifest.schema_version != 2 {
            let version = manifest.schema_version;
            return Err(format!("its manifest has version {version}, this hob knows 2"));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(format!("its manifest has more than {MAX_LAYERS} layers"));
        }
        if let Some(layer) = manifest.blobs().find(|layer| layer.size > MAX_LAYER) {
            return Err(format!("its layer {} is of {} bytes", layer.digest, layer.size));
        }
        Ok(manifest)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Every layer, the configuration last: the order in which they are fetched.
    pub fn blobs(&self) -> impl Iterator<Item = &Layer> {
        // Registries give an empty configuration to artifacts that need none.
        self.layers.iter().chain(Some(&self.config).filter(|config| config.size > 0))
    }

    /// The layers of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind() == kind)
    }
}

/// What a configuration says of its model; a registry's own keys are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub model_format: String,
    /// GGUF's `general.architecture`.
    pub model_family: String,
    #[serde(deserialize_with = "null_is_default")]
    pub model_families: Vec<String>,
    /// Parameters for people: `14.8B`.
    pub model_type: String,
    /// The recipe, in llama.cpp's spelling.
    pub file_type: String,
    pub architecture: String,
    pub os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parser: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// Where a model runs that is a name only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// hob's own: the exact number of parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// hob's own: the licence's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// hob's own: where the model came from, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Config {
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The layer that it is.
    pub fn layer(&self) -> Layer {
        let content = self.to_bytes();
        let (digest, size) = (Hasher::of(&content), content.len() as u64);
        Layer { media_type: CONFIG_TYPE.to_owned(), digest, size, from: None, name: None }
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn text(layers: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"{CONFIG_TYPE}","digest":"sha256:{HEX}","size":3}},"layers":[{layers}]}}"#
        )
    }

    fn layer(kind: &str, digest: &str, size: &str) -> String {
        format!(r#"{{"mediaType":"{LAYER_TYPE}{kind}","digest":"{digest}","size":{size},"x":1}}"#)
    }

    #[test]
    fn a_manifest_is_read_and_written_alike() {
        let digest = format!("sha256:{HEX}");
        let both = [layer("model", &digest, "5"), layer("hologram", &digest, "6")].join(",");
        let m = Manifest::parse(text(&both).as_bytes()).unwrap();
        assert_eq!((m.layers[0].kind(), m.layers[1].kind()), (Kind::Model, Kind::Other));
        assert_eq!(m.blobs().map(|l| l.size).collect::<Vec<_>>(), [5, 6, 3]);
        assert_eq!(Manifest::parse(&m.to_bytes()).unwrap(), m);
        assert_eq!(m.layers[0].media_type, Layer::new(Kind::Model, m.config.digest, 5).media_type);
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let good = format!("sha256:{HEX}");
        for bad in [
            layer("model", &format!("sha256:{}", &HEX[1..]), "5"),
            layer("model", "sha256:../../../../etc/passwd", "5"),
            layer("model", &format!("sha256:{}\\u0000", &HEX[1..]), "5"),
            layer("model", &good, "-1"),
            layer("model", &good, "1e30"),
            layer("model", &good, "18446744073709551615"),
        ] {
            assert!(Manifest::parse(text(&bad).as_bytes()).is_err(), "{bad}");
        }
        assert!(Manifest::parse(text("").replace(":2,", ":3,").as_bytes()).is_err());
        assert!(Manifest::parse(b"").is_err() && Manifest::parse(b"[]").is_err());
    }

    #[test]
    fn configurations_of_others_are_read() {
        let config: Config = serde_json::from_str(
            r#"{"model_family":"llama","model_families":null,"rootfs":{"type":"layers"},"file_type":"Q4_0"}"#,
        )
        .unwrap();
        assert_eq!((config.model_family.as_str(), config.file_type.as_str()), ("llama", "Q4_0"));
    }
}
