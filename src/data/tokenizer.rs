//! The ten-word WordPiece tokenizer: each base is a word; trained, read and written through the `tokenizers` crate.

use super::DataError;
use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

/// The vocabulary, in the order of ids.
pub const WORDS: [&str; 10] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "C", "G", "T", "N"];
const SPECIAL: usize = 5;

/// Tokens that the file's truncation and padding say, until a model is trained with other ones.
const MAX_LENGTH: usize = 128;

/// A vocabulary of ten words takes 1 KB; nothing sensible takes this much.
const SIZE_LIMIT: u64 = 4 << 20;

/// How often each letter stands in some rows: the word counts of their sentences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(BTreeMap<u8, u64>);

impl Counts {
    /// Counts the letters of some rows.
    pub fn of(sequences: &super::rows::Sequences) -> Self {
        let mut counts = [0_u64; 256];
        sequences.iter().flatten().for_each(|&letter| counts[usize::from(letter)] += 1);
        Self((0..=255_u8).zip(counts).filter(|&(_, count)| count > 0).collect())
    }

    /// Adds the counts of other rows.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(letter, count)| *self.0.entry(*letter).or_default() += count);
    }
}

/// Trains the tokenizer on the letters of rows and gives its `tokenizer.json`; messages name the rows `label`.
///
/// `WordPieceTrainer` is the crate's BPE trainer run on word counts, then turned into a WordPiece model. The same two steps are
/// taken here, on counts made by reading letters: feeding 6.7 million sentences as text gives the same counts in minutes.
pub fn train(counts: &Counts, label: &str) -> Result<String, DataError> {
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(WORDS.len())
        .special_tokens(WORDS[..SPECIAL].iter().map(|word| AddedToken::from(*word, true)).collect())
        // All bases are words, also when no row has an N.
        .initial_alphabet(WORDS[SPECIAL..].iter().filter_map(|word| word.chars().next()).collect())
        .continuing_subword_prefix("##".to_owned())
        .build();
    let words = counts.0.iter().map(|(&letter, &count)| (char::from(letter).to_string().into(), count)).collect();
    let mut bpe = BPE::default();
    trainer.do_train(&words, &mut bpe).map_err(|e| DataError::Input(format!("{label}: {e}")))?;

    let trained = WordPiece::from_bpe(&bpe);
    let vocab = tokenizers::Model::get_vocab(&trained);
    if let Some(stranger) = vocab.keys().filter(|word| !WORDS.contains(&word.as_str())).min() {
        let what =
            format!("{label}: a row holds {stranger:?}, which is not one of A, C, G, T, N: import the rows first");
        return Err(DataError::Input(what));
    }
    assert_eq!(vocab.len(), WORDS.len(), "the trainer kept all special tokens and the whole alphabet");
    // The trainer numbers letters by code point; the published order has N last.
    let mut ids = 0..;
    let numbered = WORDS.map(|word| (word.to_owned(), ids.next().expect("numbers don't end")));
    let model = WordPiece::builder()
        .vocab(numbered)
        .unk_token("[UNK]".to_owned())
        .continuing_subword_prefix("##".to_owned())
        .build()
        .expect("ten words make a model");
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    written(tokenizer, MAX_LENGTH, label)
}

/// Gives the `tokenizer.json` that belongs into the folder of a model trained with this length and these special tokens.
pub fn for_model(json: &str, label: &str, max_length: usize, special_tokens: bool) -> Result<String, DataError> {
    let mut tokenizer = parse(json, label)?;
    let id = |word: &str| {
        let id = tokenizer
            .token_to_id(word)
            .ok_or_else(|| DataError::Input(format!("{label}: its vocabulary has no {word}")));
        id.map(|id| (word.to_owned(), id))
    };
    let around = if special_tokens { Some(BertProcessing::new(id("[SEP]")?, id("[CLS]")?)) } else { None };
    tokenizer.with_post_processor(around);
    written(tokenizer, max_length, label)
}

fn written(mut tokenizer: Tokenizer, max_length: usize, label: &str) -> Result<String, DataError> {
    let fault = |e: tokenizers::Error| DataError::Input(format!("{label}: {e}"));
    let truncation = TruncationParams { max_length, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(fault)?;
    let pad_id = tokenizer.token_to_id("[PAD]").unwrap_or(0);
    tokenizer.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(max_length),
        pad_id,
        ..PaddingParams::default()
    }));
    tokenizer.to_string(true).map_err(fault)
}

/// Reads a `tokenizer.json` file, up to a sensible size.
pub fn read_text(path: &Path, label: &str) -> Result<String, DataError> {
    let mut text = String::new();
    let mut file = fs_err::File::open(path)?.take(SIZE_LIMIT + 1);
    match file.read_to_string(&mut text) {
        Ok(size) if size as u64 <= SIZE_LIMIT => Ok(text),
        Ok(_) => {
            Err(DataError::Input(format!("{label}: larger than {} MiB: not a tokenizer of bases", SIZE_LIMIT >> 20)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(DataError::Input(format!("{label}: not a tokenizer.json: it is not text")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Parses the text of a `tokenizer.json`.
pub fn parse(json: &str, label: &str) -> Result<Tokenizer, DataError> {
    // The crate panics on some crafted files (a vocabulary that its model lacks).
    match catch_unwind(AssertUnwindSafe(|| json.parse::<Tokenizer>())) {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(error)) => Err(DataError::Input(format!("{label}: not a tokenizer.json ({error})"))),
        Err(_) => Err(DataError::Input(format!("{label}: not a tokenizer.json (its parts contradict each other)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Sequences;

    fn counts(sequences: &[&str]) -> Counts {
        let (mut all, mut counts) = (Sequences::default(), Counts::default());
        sequences.iter().for_each(|s| all.push(s.as_bytes()));
        counts.add(&Counts::of(&all));
        counts
    }

    #[test]
    fn the_vocabulary_is_ten_words_whatever_the_rows_hold() {
        let texts = [counts(&["ACGTN"]), counts(&["ACCA", "GT"]), Counts::default()]
            .map(|c| train(&c, "rows").expect("trained"));
        assert!(texts.iter().all(|text| *text == texts[0]));
        let tokenizer = parse(&texts[0], "t").expect("parsed");
        let ids = tokenizer.encode("A C G T N X", false).expect("encoded");
        assert_eq!(ids.get_ids()[..7], [5, 6, 7, 8, 9, 1, 0]);
        assert_eq!(ids.get_ids().len(), 128);
    }

    #[test]
    fn the_file_equals_the_reference() {
        let path = crate::data::tests::shared().join("reference/tokenizer.json");
        let Ok(reference) = fs_err::read_to_string(&path) else {
            eprintln!("skipped: no reference set at {}", path.display());
            return;
        };
        assert_eq!(train(&counts(&["ACGT"]), "rows").expect("trained").trim(), reference.trim());
    }

    #[test]
    fn other_letters_are_refused() {
        let error = train(&counts(&["ACGU"]), "rows").expect_err("refused").to_string();
        assert_eq!(error, "rows: a row holds \"U\", which is not one of A, C, G, T, N: import the rows first");
    }
}
