//! Text laid out for a terminal: columns two spaces apart, paragraphs. Widths are those of terminals, where a Chinese character takes two cells.

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
mod tests {
    use super::*;

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
}
