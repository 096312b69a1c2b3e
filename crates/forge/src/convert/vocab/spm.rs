//! A SentencePiece model: pieces with scores and kinds, and the normalizer, from the protobuf that holds them. Only the
//! fields needed are read; lengths are a stranger's and bounded by the file. Deliberately absent: how it was trained.
//!
//! Format: `sentencepiece_model.proto`: field 1 of the model is a piece, whose fields are text (1), score (2), kind (3);
//! field 3 is the normalizer, whose fields are a table of characters (2), whether a space is put before a text (3) and
//! whether repeated spaces are taken out (4).

/// A piece of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: u64,
}

/// Reads all pieces; none if this is no such file.
pub(super) fn pieces(bytes: &[u8]) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(piece)) = field? {
            out.push(self::piece(piece)?);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// What is done to a text before it is cut.
#[derive(Debug, PartialEq)]
pub(super) struct Normalizer {
    /// A table of what characters become, compiled.
    pub characters: Vec<u8>,
    pub adds_space: bool,
    pub removes_spaces: bool,
}

/// Reads the normalizer; what the file leaves out is as the format says.
pub(super) fn normalizer(bytes: &[u8]) -> Option<Normalizer> {
    let mut out = Normalizer { characters: Vec::new(), adds_space: true, removes_spaces: true };
    for field in Fields(bytes) {
        let (3, Wire::Bytes(normalizer)) = field? else { continue };
        for field in Fields(normalizer) {
            match field? {
                (2, Wire::Bytes(table)) => out.characters = table.to_owned(),
                (3, Wire::Number(flag)) => out.adds_space = flag != 0,
                (4, Wire::Number(flag)) => out.removes_spaces = flag != 0,
                _ => {}
            }
        }
    }
    Some(out)
}

fn piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => piece.text = str::from_utf8(text).ok()?.to_owned(),
            (2, Wire::Four(score)) => piece.score = f32::from_le_bytes(score),
            (3, Wire::Number(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    Some(piece)
}

/// A field's value by its wire type.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message; `None` where it is damaged, and then nothing more.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.take(8).map(|_| Wire::Eight)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// A number in groups of seven bits, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pieces and a field of another kind.
    const MODEL: &[u8] = &[
        0x0a, 0x0b, 0x0a, 2, b'<', b's', 0x15, 0, 0, 0, 0x40, 0x18,
        3, // "<s>"-like, 2.0, control
        0x0a, 0x03, 0x0a, 1, b'a', // "a"
        0x10, 0x96, 1, // field 2 = 150
    ];

    #[test]
    fn pieces_are_read() {
        let first = Piece { text: "<s".to_owned(), score: 2.0, kind: 3 };
        let second = Piece { text: "a".to_owned(), score: 0.0, kind: 1 };
        assert_eq!(pieces(MODEL), Some(vec![first, second]));
    }

    #[test]
    fn the_normalizer_is_read() {
        let known = Normalizer { characters: vec![7, 8], adds_space: false, removes_spaces: true };
        assert_eq!(normalizer(&[0x1a, 6, 0x12, 2, 7, 8, 0x18, 0]), Some(known));
        let silent = Normalizer { characters: Vec::new(), adds_space: true, removes_spaces: true };
        assert_eq!(normalizer(MODEL), Some(silent));
        assert_eq!(normalizer(&[0x1a, 9]), None);
    }

    #[test]
    fn a_cut_file_is_refused_or_has_fewer_pieces() {
        for length in 0..MODEL.len() {
            let cut = pieces(&MODEL[..length]);
            assert!(cut.is_none() || [13, 18].contains(&length), "{length}: {cut:?}");
        }
        assert_eq!(pieces(&[0xff; 32]), None);
        assert_eq!(pieces(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }
}
