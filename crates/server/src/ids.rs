//! Identifiers that nobody can guess: of requests, answers and calls.

/// The letters of identifiers: 32, so that a byte chooses without bias.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// `prefix` and `n` random letters.
pub fn random(prefix: &str, n: usize) -> String {
    let mut bytes = vec![0; n];
    // Without randomness they are all alike, which harms nobody but whoever compares them.
    let _ = getrandom::fill(&mut bytes);
    let letter = |b: &u8| char::from(LETTERS[usize::from(b % 32)]);
    prefix.chars().chain(bytes.iter().map(letter)).collect()
}

/// Of a call, in Ollama's form.
pub fn call() -> String {
    random("call_", 8)
}
