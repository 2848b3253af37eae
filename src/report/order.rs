//! The order in which people expect names: before, …, after; pretrained, …, finetuned; 3000 before 15000.

use std::cmp::Ordering;

/// Compares names: what came before a change first and what came after it last, runs of digits by their value.
pub fn by_name(a: &str, b: &str) -> Ordering {
    rank(a).cmp(&rank(b)).then_with(|| natural(a, b))
}

fn rank(name: &str) -> u8 {
    match name {
        "before" | "pretrained" => 0,
        "after" | "finetuned" => 2,
        _ => 1,
    }
}

fn natural(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let (digits_a, digits_b) = (leading_digits(a), leading_digits(b));
        if digits_a > 0 && digits_b > 0 {
            let ((x, rest_a), (y, rest_b)) = (a.split_at(digits_a), b.split_at(digits_b));
            let (short_x, short_y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            // Numbers without leading zeros: the longer is the larger. Equal values: fewer zeros first.
            let order = (short_x.len(), short_x, x.len()).cmp(&(short_y.len(), short_y, y.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
        match (chars_a.next(), chars_b.next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (chars_a.as_str(), chars_b.as_str()),
            (x, y) => return x.cmp(&y),
        }
    }
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_sort_by_value() {
        let mut names = ["k@n=15000", "after", "k@n=3000", "low", "k@n=03000", "before", "high"];
        names.sort_by(|a, b| by_name(a, b));
        assert_eq!(names, ["before", "high", "k@n=3000", "k@n=03000", "k@n=15000", "low", "after"]);
    }
}
