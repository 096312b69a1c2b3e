//! The key that says who this machine is to Ollama's registry: Ed25519 in a file of OpenSSH's format (`PROTOCOL.key`). Where keys lie is
//! the settings' business. Keys with a passphrase are not supported.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::small_file;
use crate::error::SourceError;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const KIND: &[u8] = b"ssh-ed25519";
/// The unencrypted private part is padded to a multiple of this.
const BLOCK: usize = 8;

/// A key pair.
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    /// The key of a file; `None` when there is no such file.
    ///
    /// # Errors
    /// `Local` when it holds something else than an Ed25519 key without a passphrase.
    pub fn read(path: &Path) -> Result<Option<Key>, SourceError> {
        let Some(text) = small_file(path) else { return Ok(None) };
        let local = |reason: &str| SourceError::Local {
            path: path.to_owned(),
            reason: format!("it holds no usable key: {reason}"),
        };
        parse(&text).map(|pair| Some(Key(pair))).map_err(local)
    }

    /// A new key, written to a file that only its owner can read.
    ///
    /// # Errors
    /// `Local` when the file is there already or cannot be written.
    pub fn generate(path: &Path) -> Result<Key, SourceError> {
        let local = |reason: String| SourceError::Local { path: path.to_owned(), reason };
        let mut seed = [0; 32];
        let mut check = [0; 4];
        getrandom::fill(&mut seed).map_err(|e| local(e.to_string()))?;
        getrandom::fill(&mut check).map_err(|e| local(e.to_string()))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| local(e.to_string()))?;
        let text = armoured(&seed, pair.public_key().as_ref(), check);
        write_secret(path, text.as_bytes()).map_err(|e| local(e.to_string()))?;
        Ok(Key(pair))
    }

    /// The public half in the form of `authorized_keys`, to be entered where one registers it.
    pub fn public(&self) -> String {
        format!("ssh-ed25519 {}", self.public_blob())
    }

    /// `PUBLIC:SIGNATURE` of a text, as Ollama's registry wants it in `Authorization`.
    pub fn signed(&self, text: &str) -> String {
        format!("{}:{}", self.public_blob(), BASE64.encode(self.0.sign(text.as_bytes())))
    }

    fn public_blob(&self) -> String {
        BASE64.encode(public_blob(self.0.public_key().as_ref()))
    }
}

fn public_blob(public: &[u8]) -> Vec<u8> {
    [string(KIND), string(public)].concat()
}

/// SSH's string: its length in four bytes, then its bytes (RFC 4251).
fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn armoured(seed: &[u8; 32], public: &[u8], check: [u8; 4]) -> String {
    let pair = [seed.as_slice(), public].concat();
    let mut private =
        [check.to_vec(), check.to_vec(), public_blob(public), string(&pair), string(b"hob")]
            .concat();
    let padding = (1..).take(private.len().next_multiple_of(BLOCK) - private.len());
    private.extend(padding.collect::<Vec<u8>>());
    let all = [
        MAGIC.to_vec(),
        string(b"none"),
        string(b"none"),
        string(b""),
        1_u32.to_be_bytes().to_vec(),
        string(&public_blob(public)),
        string(&private),
    ]
    .concat();
    let text = BASE64.encode(all);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

fn parse(text: &str) -> Result<Ed25519KeyPair, &'static str> {
    let inner = text.trim().strip_prefix(BEGIN).and_then(|t| t.strip_suffix(END));
    let base64: String = inner.ok_or("not in OpenSSH's format")?.split_whitespace().collect();
    let all = BASE64.decode(base64).map_err(|_| "its base64 is damaged")?;
    let mut rest = all.strip_prefix(MAGIC).ok_or("not in OpenSSH's format")?;
    if take_string(&mut rest)? != b"none" {
        return Err("it is protected by a passphrase");
    }
    let (_kdf, _options) = (take_string(&mut rest)?, take_string(&mut rest)?);
    if take(&mut rest, 4)? != [0, 0, 0, 1] {
        return Err("it is not one key");
    }
    let _public = take_string(&mut rest)?;
    let mut private = take_string(&mut rest)?;
    if take(&mut private, 4)? != take(&mut private, 4)? {
        return Err("its check fails");
    }
    if take_string(&mut private)? != KIND {
        return Err("it is not of the kind ed25519");
    }
    let public = take_string(&mut private)?;
    let pair = take_string(&mut private)?;
    let seed = pair.get(..32).ok_or("it is too short")?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| "its halves do not match")
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], &'static str> {
    let (taken, after) = rest.split_at_checked(bytes).ok_or("it is too short")?;
    *rest = after;
    Ok(taken)
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = take(rest, 4)?.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
    take(rest, length)
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_key_is_written_read_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/id_ed25519");
        assert!(Key::read(&path).unwrap().is_none());
        let key = Key::generate(&path).unwrap();
        let again = Key::read(&path).unwrap().unwrap();
        assert_eq!(key.public(), again.public());
        assert!(Key::generate(&path).is_err(), "a key is never overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let signed = again.signed("GET,x");
        let (public, signature) = signed.split_once(':').unwrap();
        assert_eq!(key.public(), format!("ssh-ed25519 {public}"));
        let blob = BASE64.decode(public).unwrap();
        assert_eq!(&blob[..15], b"\0\0\0\x0bssh-ed25519");
        let public = UnparsedPublicKey::new(&ED25519, &blob[19..]);
        let signature = BASE64.decode(signature).unwrap();
        public.verify(b"GET,x", &signature).unwrap();
        assert!(public.verify(b"GET,y", &signature).is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let seed = [7; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = pair.public_key().as_ref();
        let good = armoured(&seed, public, [1, 2, 3, 4]);
        assert!(parse(&good).is_ok());
        assert!(parse(&good.replace('\n', "\r\n")).is_ok());
        assert!(parse(&armoured(&seed, &[9; 32], [0; 4])).is_err(), "halves that do not match");
        assert!(parse(&armoured(&seed, &public[1..], [0; 4])).is_err());
        for bad in
            ["", BEGIN, "-----BEGIN RSA PRIVATE KEY-----", &good[..100], &good.replace('A', "B")]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "no key").unwrap();
        assert!(matches!(Key::read(&path), Err(SourceError::Local { .. })));
    }

    proptest! {
        #[test]
        fn damaged_keys_do_not_panic(at in 0_usize..200, byte: u8) {
            let seed = [7; 32];
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let text = armoured(&seed, pair.public_key().as_ref(), [0; 4]);
            let inner = text.trim().strip_prefix(BEGIN).unwrap().strip_suffix(END).unwrap();
            let mut bytes = BASE64.decode(inner.split_whitespace().collect::<String>()).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&format!("{BEGIN}\n{}\n{END}", BASE64.encode(bytes)));
        }
    }
}
