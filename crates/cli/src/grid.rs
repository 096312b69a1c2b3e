//! Text laid out for a terminal: its width, columns two spaces apart, paragraphs. Widths are those of terminals, where a Chinese character takes
//! two cells.

use std::io::{IsTerminal, stdout};

use console::{Term, measure_text_width};

/// Width where there is no terminal and nobody says.
const USUAL: usize = 80;

/// Cells of a line: `COLUMNS`, else the terminal's, else 80.
pub fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || {
        let size = stdout().is_terminal().then(|| Term::stdout().size_checked()).flatten();
        size.map(|(_, columns)| usize::from(columns))
    };
    told.or_else(terminal).filter(|columns| *columns >= 40).unwrap_or(USUAL)
}

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
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), align) in row.iter().zip(&widths).zip(align) {
            let blanks = " ".repeat(width - measure_text_width(cell));
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

/// A paragraph in lines of at most `width` cells, those after the first indented. Chinese may break between any two characters.
pub fn paragraph(text: &str, width: usize, indent: usize) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in words(text) {
        let full = measure_text_width(&line) + measure_text_width(word.trim_end()) > width;
        if full && !line.trim().is_empty() {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(indent);
        }
        line += word;
    }
    lines += line.trim_end();
    lines.push('\n');
    lines
}

/// Pieces between which a line may break: after blanks, and behind every wide character that no closing mark follows.
fn words(text: &str) -> Vec<&str> {
    const CLOSING: &str = "，。；：、）》？！";
    let (mut words, mut start) = (Vec::new(), 0);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let wide = ('\u{2e80}'..='\u{ffef}').contains(&c);
        let closing = chars.peek().is_some_and(|(_, next)| CLOSING.contains(*next));
        if c == ' ' || (wide && !closing) {
            words.extend(text.get(start..end));
            start = end;
        }
    }
    words.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    words
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
        assert_eq!(paragraph("one two three", 8, 2), "one two\n  three\n");
        assert_eq!(paragraph("大模型，本地部署", 8, 0), "大模型，\n本地部署\n");
        assert_eq!(paragraph("averylongword", 4, 0), "averylongword\n");
    }
}
