//! Edits on a valid file that keep most of it valid, so that the checks behind the first ones are reached:
//! fields set to chosen numbers, bytes put in and taken out, the end cut off.
#![no_main]

#[path = "../../crates/gguf/tests/common/mod.rs"]
mod common;

use arbitrary::Arbitrary;
use hob_gguf::Gguf;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Number {
    Any(u64),
    Small(u8),
    /// A power of two, give or take a little.
    Near {
        bit: u8,
        offset: i8,
    },
    /// A little more or less than what is there.
    Change(i16),
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Field {
        index: u8,
        number: Number,
    },
    Byte {
        at: u16,
        value: u8,
    },
    Insert {
        at: u16,
        bytes: Vec<u8>,
    },
    Remove {
        at: u16,
        count: u8,
    },
    /// Repeats a part elsewhere: duplicate pairs and tensors.
    Copy {
        from: u16,
        count: u8,
        to: u16,
    },
    Truncate {
        len: u16,
    },
}

impl Number {
    fn of(&self, old: u64) -> u64 {
        match *self {
            Number::Any(x) => x,
            Number::Small(x) => x.into(),
            Number::Near { bit, offset } => (1u64 << (bit % 64)).wrapping_add_signed(offset.into()),
            Number::Change(by) => old.wrapping_add_signed(by.into()),
        }
    }
}

/// Fields keep their places from the sample: set first, before bytes move.
fn set_fields(image: &mut common::Image, edits: &[Edit]) {
    for edit in edits {
        let Edit::Field { index, number } = edit else { continue };
        let field = image.fields[usize::from(*index) % image.fields.len()];
        let mut old = [0; 8];
        old[..field.width].copy_from_slice(&image.bytes[field.at..field.at + field.width]);
        common::set(&mut image.bytes, field, number.of(u64::from_le_bytes(old)));
    }
}

fn edit_bytes(bytes: &mut Vec<u8>, edit: &Edit) {
    let place = |at: u16| usize::from(at) % (bytes.len() + 1);
    match edit {
        Edit::Field { .. } => {}
        Edit::Byte { at, value } => {
            let at = place(*at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *value;
            }
        }
        Edit::Insert { at, bytes: new } => {
            let at = place(*at);
            bytes.splice(at..at, new.iter().copied());
        }
        Edit::Remove { at, count } => {
            let at = place(*at);
            let end = (at + usize::from(*count)).min(bytes.len());
            bytes.drain(at..end);
        }
        Edit::Copy { from, count, to } => {
            let (from, to) = (place(*from), place(*to));
            let end = (from + usize::from(*count)).min(bytes.len());
            let part = bytes[from..end].to_vec();
            bytes.splice(to..to, part);
        }
        Edit::Truncate { len } => bytes.truncate(place(*len)),
    }
}

fuzz_target!(|edits: Vec<Edit>| {
    let mut image = common::sample();
    set_fields(&mut image, &edits);
    let mut bytes = image.bytes;
    edits.iter().take(32).for_each(|edit| edit_bytes(&mut bytes, edit));
    if let Ok(file) = Gguf::from_bytes(bytes) {
        common::walk(&file);
        common::walk(&common::rewrite(&file));
    }
});
