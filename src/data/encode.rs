//! Encoding: a sequence becomes token ids through a table made from a `tokenizer.json`.

use super::DataError;
use super::tokenizer;
use super::tokens::Tokens;
use std::path::Path;

/// Turns sequences into token ids, as the tokenizer itself would on bases separated by blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    /// The id of each letter.
    ids: [u8; 256],
    pad: u8,
    /// `[CLS]` and `[SEP]`, where they are added.
    around: Option<(u8, u8)>,
    max_length: usize,
    vocab_size: usize,
}

impl Encoder {
    /// Makes the table from a `tokenizer.json` file; messages name it `label`.
    pub fn open(path: &Path, label: &str, max_length: usize, special_tokens: bool) -> Result<Self, DataError> {
        Self::new(&tokenizer::read_text(path, label)?, label, max_length, special_tokens)
    }

    /// Makes the table by asking the tokenizer about each letter.
    pub fn new(json: &str, label: &str, max_length: usize, special_tokens: bool) -> Result<Self, DataError> {
        let fault = |what: String| DataError::Input(format!("{label}: {what}"));
        let mut asked = tokenizer::parse(json, label)?;
        asked.with_padding(None);
        asked.with_truncation(None).map_err(|e| fault(e.to_string()))?;
        if max_length < if special_tokens { 3 } else { 1 } {
            return Err(fault(format!("a length of {max_length} tokens leaves no room for a base")));
        }
        if max_length > Tokens::LONGEST {
            return Err(fault(format!("a length of {max_length} tokens is more than {}", Tokens::LONGEST)));
        }
        let special = |word: &str| {
            let id = asked.token_to_id(word).ok_or_else(|| fault(format!("its vocabulary has no {word}")))?;
            u8::try_from(id).map_err(|_| fault(format!("{word} has id {id}: this is not a tokenizer of single bases")))
        };
        let ask = |text: &str| -> Result<Vec<u32>, DataError> {
            Ok(asked.encode(text, false).map_err(|e| fault(e.to_string()))?.get_ids().to_vec())
        };
        let (pad, unknown) = (special("[PAD]")?, special("[UNK]")?);
        let around = if special_tokens { Some((special("[CLS]")?, special("[SEP]")?)) } else { None };

        let mut ids = [unknown; 256];
        for letter in 0x21..0x7f_u8 {
            // What is no word by itself can't stand in a row that passed the import.
            if let [id] = ask(&char::from(letter).to_string())?[..] {
                ids[usize::from(letter)] =
                    u8::try_from(id).map_err(|_| fault(format!("id {id} of {:?} is past 255", char::from(letter))))?;
            }
        }
        let encoder = Self { ids, pad, around, max_length, vocab_size: asked.get_vocab_size(true) };
        let probe = "A C G T N N T G C A A";
        let table: Vec<u32> = probe.bytes().filter(|b| *b != b' ').map(|b| u32::from(ids[usize::from(b)])).collect();
        if ask(probe)? != table || b"ACGT".iter().any(|b| ids[usize::from(*b)] == unknown) {
            return Err(fault(
                "not a tokenizer of single bases: each of A, C, G, T has to be a word of its own".into(),
            ));
        }
        Ok(encoder)
    }

    /// Puts the ids of a sequence into `out`, cut to the longest length, not padded.
    pub fn encode(&self, sequence: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let room = self.max_length - if self.around.is_some() { 2 } else { 0 };
        out.extend(self.around.map(|(cls, _)| cls));
        out.extend(sequence.iter().take(room).map(|b| self.ids[usize::from(*b)]));
        out.extend(self.around.map(|(_, sep)| sep));
    }

    /// Holds rows of this vocabulary.
    pub fn tokens(&self) -> Tokens {
        Tokens::new(self.vocab_size)
    }

    /// Encodes rows, each cut to the longest length.
    pub fn encode_all<'a>(&self, sequences: impl Iterator<Item = &'a [u8]>) -> Tokens {
        let (mut tokens, mut ids) = (self.tokens(), Vec::new());
        for sequence in sequences {
            self.encode(sequence, &mut ids);
            tokens.push(&ids);
        }
        tokens
    }

    pub fn pad_id(&self) -> u8 {
        self.pad
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The most ids that a sequence gives.
    pub fn max_length(&self) -> usize {
        self.max_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::{Counts, train};

    fn spaced(sequence: &str) -> String {
        sequence.chars().map(String::from).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_table_equals_the_crate_with_and_without_special_tokens() {
        let json = train(&Counts::default(), "rows").expect("trained");
        for special in [false, true] {
            for max_length in [3, 8, 128] {
                let encoder = Encoder::new(&json, "t", max_length, special).expect("made");
                let text = tokenizer::for_model(&json, "t", max_length, special).expect("written");
                let mut crate_own = tokenizer::parse(&text, "t").expect("parsed");
                crate_own.with_padding(None);
                for sequence in ["A", "ACGTN", "TGCATTxTTTTCACATCaNNg", &"ACCGT".repeat(40)] {
                    let mut ids = Vec::new();
                    encoder.encode(sequence.as_bytes(), &mut ids);
                    let own = crate_own.encode(spaced(sequence), true).expect("encoded");
                    assert_eq!(ids.iter().map(|&i| u32::from(i)).collect::<Vec<_>>(), own.get_ids(), "{sequence}");
                }
            }
        }
    }

    #[test]
    fn the_reference_ids_are_reproduced() {
        let folder = crate::data::tests::shared().join("reference");
        let Ok(listed) = fs_err::read_to_string(folder.join("sequences.json")) else {
            eprintln!("skipped: no reference set in {}", folder.display());
            return;
        };
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let tensors = fs_err::read(folder.join("reference.safetensors")).expect("read");
        let tensors = safetensors::SafeTensors::deserialize(&tensors).expect("safetensors");
        let expected = tensors.tensor("input_ids").expect("there");
        let expected: Vec<u64> =
            expected.data().chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes"))).collect();
        let encoder = Encoder::open(&folder.join("tokenizer.json"), "t", 128, false).expect("made");
        let mut ids = Vec::new();
        for (i, sequence) in listed["sequences"].as_array().expect("a list").iter().enumerate() {
            encoder.encode(sequence.as_str().expect("text").as_bytes(), &mut ids);
            ids.resize(128, encoder.pad_id());
            let row: Vec<u64> = ids.iter().map(|&i| u64::from(i)).collect();
            assert_eq!(row, expected[i * 128..(i + 1) * 128], "{sequence}");
        }
    }

    #[test]
    fn a_file_that_is_no_base_tokenizer_is_refused() {
        for json in ["", "{}", "[]", r#"{"version":"1.0","model":{"type":"WordPiece"}}"#] {
            let error = Encoder::new(json, "t.json", 128, false).expect_err("refused").to_string();
            assert!(error.starts_with("t.json: "), "{error}");
        }
    }
}
