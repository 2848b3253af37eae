//! Subset lists of the challenge's test set: single positions, or pairs of an altered and a reference sequence.

use super::DataError;
use super::text::Lines;
use std::collections::BTreeMap;
use std::path::Path;

/// The rows that one score is computed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subset {
    /// Correlation over these rows.
    Single(Vec<i64>),
    /// Correlation of differences, reference minus altered; `(altered, reference)`.
    Pairs(Vec<(i64, i64)>),
}

impl Subset {
    pub fn len(&self) -> usize {
        match self {
            Self::Single(rows) => rows.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of each item: that of the row, or reference minus altered; an error is a position that has none.
    pub fn values(&self, of: &BTreeMap<i64, f64>) -> Result<Vec<f64>, i64> {
        let get = |pos: &i64| of.get(pos).copied().ok_or(*pos);
        match self {
            Self::Single(rows) => rows.iter().map(get).collect(),
            Self::Pairs(pairs) => pairs.iter().map(|(alt, reference)| Ok(get(reference)? - get(alt)?)).collect(),
        }
    }
}

/// Reads every `NAME.tsv` of a folder; messages name the folder `label`.
pub fn read_folder(folder: &Path, label: &str) -> Result<BTreeMap<String, Subset>, DataError> {
    if !folder.is_dir() {
        return Err(DataError::Input(format!("{label}: not a folder of subset lists (NAME.tsv)")));
    }
    let mut subsets = BTreeMap::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(subset) = name.strip_suffix(".tsv") {
            subsets.insert(subset.to_owned(), read(&path, &format!("{label}/{name}"))?);
        }
    }
    if subsets.is_empty() {
        return Err(DataError::Input(format!("{label}: the folder holds no subset list (NAME.tsv)")));
    }
    Ok(subsets)
}

/// Reads one list, with the header `pos`, or `alt_pos<TAB>ref_pos`.
pub fn read(path: &Path, label: &str) -> Result<Subset, DataError> {
    let mut lines = Lines::open(path, label)?;
    let header = lines.next_line()?.map(|line| String::from_utf8_lossy(line.text).into_owned()).unwrap_or_default();
    let columns = match header.as_str() {
        "pos" => 1,
        "alt_pos\tref_pos" => 2,
        other => {
            let what =
                format!("{label}:1: the header is {other:?}; expected `pos`, or `alt_pos<TAB>ref_pos` for pairs");
            return Err(DataError::Input(what));
        }
    };
    let (mut singles, mut pairs) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next_line()? {
        if line.text.is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(line.text).into_owned();
        let places: Option<Vec<i64>> = text.split('\t').map(|field| field.parse().ok()).collect();
        match places.as_deref() {
            Some(&[pos]) if columns == 1 => singles.push(pos),
            Some(&[alt, reference]) if columns == 2 => pairs.push((alt, reference)),
            _ => {
                let expected = if columns == 1 { "one row position" } else { "two row positions" };
                return Err(DataError::Input(format!(
                    "{label}:{}: {text:?}, where {expected} should stand",
                    line.number
                )));
            }
        }
    }
    Ok(if columns == 1 { Subset::Single(singles) } else { Subset::Pairs(pairs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_pairs_from_single_rows() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let put = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).expect("written");
        put("high.tsv", "pos\n5\n2\n");
        put("snv.tsv", "alt_pos\tref_pos\n5\t2\n");
        put("README.md", "ignored");
        let subsets = read_folder(dir.path(), "subsets").expect("read");
        assert_eq!(subsets["high"], Subset::Single(vec![5, 2]));
        let values = BTreeMap::from([(5, 1.0), (2, 4.5)]);
        assert_eq!(subsets["snv"].values(&values), Ok(vec![3.5]));
        assert_eq!(Subset::Single(vec![9]).values(&values), Err(9));
        put("snv.tsv", "alt_pos\tref_pos\n5\t2\n7\n");
        let error = read_folder(dir.path(), "subsets").expect_err("bad").to_string();
        assert_eq!(error, "subsets/snv.tsv:3: \"7\", where two row positions should stand");
    }
}
