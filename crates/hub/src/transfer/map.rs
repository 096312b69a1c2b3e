//! The map of a partial file: which parts are there, with the xxh3-64 of each as it arrived. A header of 72 bytes says which file it is
//! about, then one record of 16 bytes per part, written in place. Every record carries a seal, so a torn or stray one counts as missing,
//! and whatever it claims is held against the partial file before it is believed: nothing needs an fsync while a transfer runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::disk;
use super::parts::{MAX_BYTES, count};
use crate::digest::Digest;
use crate::error::{HubError, io_error};

const MAGIC: &[u8; 8] = b"hobmap\x00\x01";
const HEADER: usize = 72;
const RECORD: usize = 16;
/// Seeds of the seals: a checksum of something else is no seal.
const HEADER_SEAL: u64 = 0x686f_625f_6865_6164;
const RECORD_SEAL: u64 = 0x686f_625f_7061_7274;

/// Which file a map is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Bytes of the whole file.
    pub total: u64,
    /// Bytes of a part.
    pub part: u64,
    /// The digest wanted, if one is known.
    pub digest: Option<Digest>,
    /// Hash of the server's entity tag; 0 for none. All there is to go by without a digest.
    pub tag: u64,
}

/// An open map.
#[derive(Debug)]
pub(super) struct Map {
    file: File,
    path: PathBuf,
}

impl Map {
    /// Begins a new map: nothing is there.
    pub fn create(path: &Path, identity: &Identity) -> Result<Map, HubError> {
        let options = OpenOptions::new().create(true).truncate(true).read(true).write(true).clone();
        let file = options.open(path).map_err(io_error("open", path))?;
        disk::write_at(&file, &header(identity), 0).map_err(io_error("write", path))?;
        Ok(Map { file, path: path.to_owned() })
    }

    /// Opens what an earlier transfer left: the map, what it is about, and the checksum of each part that is there. `None` when there is
    /// no map, it is not one, or its parts have another size.
    #[allow(clippy::type_complexity, reason = "three things that belong to no common idea")]
    pub fn load(
        path: &Path,
        part: u64,
    ) -> Result<Option<(Map, Identity, Vec<Option<u64>>)>, HubError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("open", path)(e)),
        };
        let mut start = [0; HEADER];
        let Ok(()) = disk::read_at(&file, &mut start, 0) else { return Ok(None) };
        let Some(identity) = parse(&start).filter(|i| i.part == part) else { return Ok(None) };
        let records = count(identity.total, identity.part);
        let mut bytes = Vec::new();
        let mut reader = (&file).take((HEADER + records * RECORD) as u64);
        reader.read_to_end(&mut bytes).map_err(io_error("read", path))?;
        let written = bytes.get(HEADER..).unwrap_or_default().chunks_exact(RECORD);
        let mut sums: Vec<Option<u64>> = written.enumerate().map(|(i, r)| sum_of(i, r)).collect();
        sums.resize(records, None);
        Ok(Some((Map { file, path: path.to_owned() }, identity, sums)))
    }

    /// Notes that a part is there.
    pub fn record(&self, index: usize, sum: u64) -> Result<(), HubError> {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&sum.to_le_bytes());
        record[8..].copy_from_slice(&seal(index, sum).to_le_bytes());
        self.write(index, &record)
    }

    /// Notes that a part is not there.
    pub fn forget(&self, index: usize) -> Result<(), HubError> {
        self.write(index, &[0; RECORD])
    }

    fn write(&self, index: usize, record: &[u8; RECORD]) -> Result<(), HubError> {
        let at = (HEADER + index * RECORD) as u64;
        disk::write_at(&self.file, record, at).map_err(io_error("write", &self.path))
    }
}

fn header(identity: &Identity) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&identity.total.to_le_bytes());
    bytes[16..24].copy_from_slice(&identity.part.to_le_bytes());
    if let Some(digest) = &identity.digest {
        bytes[24..56].copy_from_slice(digest.bytes());
    }
    bytes[56..64].copy_from_slice(&identity.tag.to_le_bytes());
    let check = XxHash3_64::oneshot_with_seed(HEADER_SEAL, &bytes[..64]);
    bytes[64..].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8; HEADER]) -> Option<Identity> {
    let check = XxHash3_64::oneshot_with_seed(HEADER_SEAL, &bytes[..64]);
    let (total, part) = (word(bytes, 8)?, word(bytes, 16)?);
    let sound = bytes.starts_with(MAGIC) && word(bytes, 64)? == check;
    if !sound || total > MAX_BYTES {
        return None;
    }
    let digest: [u8; 32] = bytes.get(24..56)?.try_into().ok()?;
    let digest = (digest != [0; 32]).then(|| Digest::from_bytes(digest));
    Some(Identity { total, part, digest, tag: word(bytes, 56)? })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn seal(index: usize, sum: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(RECORD_SEAL ^ index as u64, &sum.to_le_bytes())
}

fn sum_of(index: usize, record: &[u8]) -> Option<u64> {
    let sum = word(record, 0)?;
    (word(record, 8)? == seal(index, sum)).then_some(sum)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn identity() -> Identity {
        let digest = Some(Digest::from_bytes([7; 32]));
        Identity { total: 10_000_000, part: 4 << 20, digest, tag: 9 }
    }

    #[test]
    fn what_is_recorded_is_there_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("m");
        assert!(Map::load(&path, 4 << 20).unwrap().is_none());
        let map = Map::create(&path, &identity()).unwrap();
        map.record(2, 77).unwrap();
        map.record(0, 5).unwrap();
        map.forget(0).unwrap();
        let (_, found, sums) = Map::load(&path, 4 << 20).unwrap().unwrap();
        assert_eq!((found, sums), (identity(), vec![None, None, Some(77)]));
    }

    #[test]
    fn garbage_is_no_map_and_torn_records_are_missing() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("m");
        let map = Map::create(&path, &identity()).unwrap();
        for index in 0..3 {
            map.record(index, 1).unwrap();
        }
        let sound = std::fs::read(&path).unwrap();
        for at in 0..HEADER {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Map::load(&path, 4 << 20).unwrap().is_none(), "byte {at}");
        }
        for at in HEADER..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let (_, _, sums) = Map::load(&path, 4 << 20).unwrap().unwrap();
            let wrong = (at - HEADER) / RECORD;
            assert!((0..3).all(|i| sums[i].is_some() == (i != wrong)), "byte {at}");
        }
        for len in 0..sound.len() {
            std::fs::write(&path, &sound[..len]).unwrap();
            match Map::load(&path, 4 << 20).unwrap() {
                None => assert!(len < HEADER),
                Some((_, _, sums)) => {
                    assert_eq!(sums.iter().flatten().count(), (len - HEADER) / RECORD);
                }
            }
        }
        // A record moved to another part's place is none.
        let mut bytes = sound.clone();
        bytes.copy_within(HEADER..HEADER + RECORD, HEADER + RECORD);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Map::load(&path, 4 << 20).unwrap().unwrap().2[1], None);
    }
}
