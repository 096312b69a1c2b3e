//! Text laid out for a terminal: columns two spaces apart, paragraphs, commands. Widths are those of terminals, where a Chinese character takes two cells.

use unicode_width::UnicodeWidthStr;

use crate::doctor::screen::wrap;

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Columns two spaces apart; lines have no blanks at their ends.
pub fn table(rows: &[Vec<String>], align: &[Align]) -> String {
    let mut widths = vec![0; align.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), align) in row.iter().zip(&widths).zip(align) {
            let blanks = " ".repeat(width - cell.width());
            match align {
                Align::Left => line += &format!("{cell}{blanks}  "),
                Align::Right => line += &format!("{blanks}{cell}  "),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The same where the last column, a text of many words, is wrapped so that nothing is wider than `width`.
pub fn table_within(rows: &[Vec<String>], align: &[Align], width: usize) -> String {
    let mut room = width;
    for column in 0..align.len().saturating_sub(1) {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
        room = room.saturating_sub(widest + 2);
    }
    let mut wrapped = Vec::with_capacity(rows.len());
    for row in rows {
        let Some((last, others)) = row.split_last() else { continue };
        let mut others = others.to_vec();
        for line in wrap(last, room) {
            let blank = vec![String::new(); others.len()];
            let mut cells = std::mem::replace(&mut others, blank);
            cells.push(line);
            wrapped.push(cells);
        }
    }
    table(&wrapped, align)
}

/// Whether no line is wider than `width`.
pub fn fits(text: &str, width: usize) -> bool {
    text.lines().all(|line| line.width() <= width)
}

/// A command behind a `$`, in lines of at most `width` cells that are copied as they stand: where they break, a backslash tells the shell to read
/// on. An option stays with its value, and what is in quotes stays whole, even if that takes more than a line.
pub fn command(text: &str, width: usize, indent: usize) -> String {
    const READ_ON: &str = " \\";
    let pieces = arguments(text);
    let mut lines = Vec::new();
    let mut line = format!("{}$", " ".repeat(indent));
    for (nth, piece) in pieces.iter().enumerate() {
        let end = if nth + 1 < pieces.len() { READ_ON.width() } else { 0 };
        if nth > 0 && line.width() + 1 + piece.width() + end > width {
            lines.push(line + READ_ON);
            line = " ".repeat(indent + 3);
        }
        line = line + " " + piece;
    }
    lines.push(line);
    lines.join("\n") + "\n"
}

/// The parts between which a command may break.
fn arguments(text: &str) -> Vec<String> {
    let mut quote = None;
    let between = |c: char| {
        match quote {
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        quote.is_none() && c == ' '
    };
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split(between).filter(|word| !word.is_empty()) {
        let is_option = |piece: &&mut String| piece.starts_with('-') && !piece.contains(' ');
        match pieces.last_mut().filter(is_option) {
            Some(option) if !word.starts_with('-') => *option += &format!(" {word}"),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

/// A paragraph in lines of at most `width` cells, those after the first indented.
pub fn paragraph(text: &str, width: usize, indent: usize) -> String {
    let lines = wrap(text, width.saturating_sub(indent));
    lines.join(&format!("\n{}", " ".repeat(indent))) + "\n"
}

/// The same with its first line indented too.
pub fn indented(text: &str, width: usize, indent: usize) -> String {
    format!("{}{}", " ".repeat(indent), paragraph(text, width, indent))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::path::Path;

    /// A screen is as it should be, which stands in `tests/data`; `HOB_BLESS=1` writes what is there, to be looked at.
    pub fn is_as_kept(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        if std::env::var_os("HOB_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, kept, "{}", path.display());
    }

    #[test]
    fn columns_keep_their_sides() {
        let rows = [["a", "10"], ["型号", "5"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows, &[Align::Left, Align::Right]), "a     10\n型号   5\n");
    }

    #[test]
    fn paragraphs_keep_to_the_width() {
        assert_eq!(paragraph("one two three four", 12, 2), "one two\n  three four\n");
        assert_eq!(indented("one two three four", 12, 2), "  one two\n  three four\n");
    }

    #[test]
    fn a_last_column_is_wrapped() {
        let rows = [["A", "B"], ["x", "one two three four"], ["型号", "five"]];
        let rows = rows.map(|r| r.map(String::from).to_vec());
        let text = table_within(&rows, &[Align::Left, Align::Left], 16);
        assert_eq!(text, "A     B\nx     one two\n      three four\n型号  five\n");
        assert!(fits(&text, 16) && !fits(&text, 15));
    }

    #[test]
    fn commands_break_where_shells_read_on() {
        let text = "llama-server -hf unsloth/Qwen3-GGUF:Q4_K_M -c 16384 -ngl 99";
        assert_eq!(command(text, 64, 3), format!("   $ {text}\n"));
        assert_eq!(
            command(text, 63, 3),
            "   $ llama-server -hf unsloth/Qwen3-GGUF:Q4_K_M -c 16384 \\\n       -ngl 99\n"
        );
        assert_eq!(
            command(text, 50, 0),
            "$ llama-server -hf unsloth/Qwen3-GGUF:Q4_K_M \\\n    -c 16384 -ngl 99\n"
        );
        for width in 44..70 {
            let told = command(text, width, 3);
            assert!(fits(&told, width), "{width}: {told}");
            let read: Vec<&str> =
                told.split_whitespace().filter(|w| !["$", "\\"].contains(w)).collect();
            assert_eq!(read.join(" "), text);
        }
    }

    #[test]
    fn what_is_in_quotes_stays_whole() {
        let text = "hob embed nomic \"one two three\" --x 'a \"b c' d";
        assert_eq!(
            arguments(text),
            ["hob", "embed", "nomic", "\"one two three\"", "--x 'a \"b c'", "d"]
        );
        assert_eq!(
            command(text, 20, 0),
            "$ hob embed nomic \\\n    \"one two three\" \\\n    --x 'a \"b c' d\n"
        );
        assert_eq!(arguments("a --flag --other 1  2"), ["a", "--flag", "--other 1", "2"]);
        assert_eq!(command("", 80, 3), "   $\n");
    }
}
