//! The order in which stages follow those they need, and the cycles in which there is none.

use std::collections::{BTreeMap, BTreeSet};

/// What each stage needs.
pub type Needs<'n> = BTreeMap<&'n str, BTreeSet<&'n str>>;

/// Each stage after those it needs, names breaking ties; and one cycle for each knot, first name repeated at the end.
///
/// Stages of a cycle are placed as if what they wait for had been made.
pub fn order<'n>(needs: &Needs<'n>) -> (Vec<&'n str>, Vec<Vec<&'n str>>) {
    let mut readers: BTreeMap<&str, Vec<&'n str>> = BTreeMap::new();
    let mut waits: BTreeMap<&'n str, usize> = BTreeMap::new();
    for (&stage, needed) in needs {
        let known = needed.iter().filter(|name| needs.contains_key(*name));
        waits.insert(stage, known.clone().count());
        for &name in known {
            readers.entry(name).or_default().push(stage);
        }
    }
    let mut ready: BTreeSet<&'n str> = waits.iter().filter(|(_, n)| **n == 0).map(|(&stage, _)| stage).collect();
    let mut done: BTreeSet<&'n str> = BTreeSet::new();
    let (mut order, mut cycles) = (Vec::new(), Vec::new());
    loop {
        while let Some(stage) = ready.pop_first() {
            if !done.insert(stage) {
                continue;
            }
            order.push(stage);
            for &reader in readers.get(stage).into_iter().flatten() {
                let count = waits.get_mut(reader).expect("readers are stages");
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.insert(reader);
                }
            }
        }
        let Some(start) = needs.keys().find(|stage| !done.contains(*stage)) else { return (order, cycles) };
        let cycle = cycle_from(start, needs, &done);
        ready.extend(cycle.iter().copied());
        cycles.push(cycle);
    }
}

/// Walks from what is left to what it waits for, until a stage comes up again.
fn cycle_from<'n>(start: &'n str, needs: &Needs<'n>, done: &BTreeSet<&str>) -> Vec<&'n str> {
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let next = needs[last]
            .iter()
            .copied()
            .find(|name| needs.contains_key(name) && !done.contains(name))
            .expect("a stage that is left waits for another that is left");
        if let Some(at) = path.iter().position(|&name| name == next) {
            let mut cycle = path.split_off(at);
            // From maker to reader, beginning with the first name.
            cycle.reverse();
            let first = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
            cycle.rotate_left(first);
            cycle.push(cycle[0]);
            return cycle;
        }
        path.push(next);
    }
}

/// A stage and all that it needs.
pub fn ancestors<'n>(stage: &'n str, needs: &Needs<'n>) -> BTreeSet<&'n str> {
    let mut found = BTreeSet::new();
    let mut open = vec![stage];
    while let Some(stage) = open.pop() {
        if found.insert(stage) {
            open.extend(needs.get(stage).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs<'n>(edges: &[(&'n str, &[&'n str])]) -> Needs<'n> {
        edges.iter().map(|(stage, needed)| (*stage, needed.iter().copied().collect())).collect()
    }

    #[test]
    fn stages_follow_what_they_need_and_names_break_ties() {
        let needs = needs(&[("z", &[]), ("a", &["z"]), ("m", &[]), ("b", &["a", "m"])]);
        assert_eq!(order(&needs), (vec!["m", "z", "a", "b"], vec![]));
        assert_eq!(ancestors("a", &needs), BTreeSet::from(["a", "z"]));
    }

    #[test]
    fn every_cycle_is_named_whole() {
        let needs = needs(&[("x", &["a"]), ("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("s", &["s"]), ("y", &["x"])]);
        let (order, cycles) = order(&needs);
        assert_eq!(cycles, [vec!["a", "b", "c", "a"], vec!["s", "s"]]);
        assert_eq!(order.len(), 6);
    }
}
