//! Words as a shell takes them, for commands that people copy.

/// A word as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_it() {
        let shown: Vec<String> = ["run", "a b", "it's", "", "x=${y}"].into_iter().map(shell_word).collect();
        assert_eq!(shown, ["run", "'a b'", "'it'\\''s'", "''", "'x=${y}'"]);
    }
}
