//! The valid name that a user most likely meant.

/// Gives the candidate nearest to a text, where one is near enough to be a slip.
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = text.chars().count();
    // Of a short name too little may change: any letter is near any other.
    let limit = (letters / 3).clamp(1, 3).min(letters.saturating_sub(1));
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let same = candidate.eq_ignore_ascii_case(text) || candidate.replace('-', "_") == text.replace('-', "_");
            let distance = if same { 0 } else { distance(text, candidate) };
            (distance <= limit).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Says which name was meant, or which names there are.
pub fn suggestion<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str> + Clone, what: &str) -> String {
    if let Some(name) = nearest(text, candidates.clone()) {
        return format!("did you mean `{name}`?");
    }
    let all: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    if all.is_empty() { format!("there are no {what}") } else { format!("{what}: {}", all.join(", ")) }
}

/// Counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(100).collect(), b.chars().take(100).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["per_bin", "bins", "rule", "seed", "sample-bins"];
        for (slip, meant) in [
            ("per_bn", "per_bin"),
            ("pre_bin", "per_bin"),
            ("sedd", "seed"),
            ("RULE", "rule"),
            ("sample_bins", "sample-bins"),
        ] {
            assert_eq!(nearest(slip, names), Some(meant));
        }
        assert_eq!(nearest("learning_rate", names), None);
    }
}
