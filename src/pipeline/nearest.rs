//! The valid name that a user most likely meant.

/// More names than these are not listed.
const MOST_LISTED: usize = 50;
/// Among more names than these a slip is not looked for.
const MOST_COMPARED: usize = 1000;

/// Gives the candidate nearest to a text, where one is near enough to be a slip.
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = text.chars().count();
    // Of a short name too little may change: any letter is near any other.
    let limit = (letters / 3).clamp(1, 3).min(letters.saturating_sub(1));
    candidates
        .into_iter()
        .take(MOST_COMPARED)
        .filter_map(|candidate| {
            let same = candidate.eq_ignore_ascii_case(text) || candidate.replace('-', "_") == text.replace('-', "_");
            let distance = if same { 0 } else { distance(text, candidate, limit) };
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
    let mut candidates = candidates.into_iter();
    let some: Vec<String> = candidates.by_ref().take(MOST_LISTED).map(|name| format!("`{name}`")).collect();
    let more = match candidates.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if some.is_empty() { format!("there are no {what}") } else { format!("{what}: {}{more}", some.join(", ")) }
}

/// Counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment); where they are more than
/// `limit`, gives something above it.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(100).collect(), b.chars().take(100).collect());
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 1..=a.len() {
        let mut row = vec![limit + 1; b.len() + 1];
        row[0] = i;
        // Further from the diagonal there are more changes than `limit` in any case.
        for j in i.saturating_sub(limit).max(1)..=(i + limit).min(b.len()) {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        // No later row gets below the last two.
        if row.iter().chain(&last).all(|&count| count > limit) {
            return limit + 1;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
