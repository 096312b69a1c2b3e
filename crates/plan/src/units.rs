//! Sizes and counts as people read them. Tables and sentences are made elsewhere.

/// Bytes in decimal units, as files are counted: `98 MB`.
pub fn file_size(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

/// Bytes in binary units, as memory is counted: `180 MiB`.
pub fn memory_size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Three digits, without a decimal point from ten on.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", units[unit])
}

/// Tokens per second, with as many digits as such a number deserves.
pub fn speed(tokens_per_second: f64) -> String {
    match tokens_per_second {
        ..9.95 => format!("{tokens_per_second:.1}"),
        ..999.5 => format!("{tokens_per_second:.0}"),
        _ => format!("{:.0}", (tokens_per_second / 10.0).round() * 10.0),
    }
}

/// A number of parameters, rounded as Ollama does: `134.52M`, `14.8B`.
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.0}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_digits() {
        assert_eq!(file_size(0), "0 B");
        assert_eq!(file_size(98_362_432), "98 MB");
        assert_eq!(file_size(1_117_320_768), "1.1 GB");
        assert_eq!(file_size(999_999_999), "1.0 GB");
        assert_eq!(memory_size(188_743_680), "180 MiB");
        assert_eq!(memory_size(u64::MAX), "16777216 TiB");
    }

    #[test]
    fn speeds_have_two_or_three_digits() {
        let all = [0.04, 4.18, 9.96, 123.4, 2345.6].map(speed);
        assert_eq!(all, ["0.0", "4.2", "10", "123", "2350"]);
    }

    #[test]
    fn counts_are_written_as_in_ollama() {
        assert_eq!(count(999), "999");
        assert_eq!(count(134_515_008), "134.52M");
        assert_eq!(count(1_543_714_304), "1.5B");
        assert_eq!(count(14_768_307_200), "14.8B");
    }
}
