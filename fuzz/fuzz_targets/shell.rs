//! Any text as the `run:` of a command: trouble with a line that exists, or pieces that are the text and nothing else.
//!
//! Values never enter the script: what is put in is a reference to a variable. Read again with a placeholder inside each
//! reference, the script has as many, and each stands in the quotes that its reference opened: so the scanner agrees with
//! itself about what is quoted before and after.

#![no_main]

use cistage::stages::shell::{Piece, Place, is_whole_number, pieces, placeholder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    is_whole_number(text);
    let found = match pieces(text) {
        Ok(found) => found,
        Err(trouble) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&trouble.line));
            return;
        }
    };
    let mut original = String::new();
    let mut again = String::new();
    let mut expected = Vec::new();
    for piece in &found {
        match *piece {
            Piece::Text(text) => {
                original.push_str(text);
                again.push_str(text);
            }
            Piece::Placeholder { inside, place, line } => {
                assert_eq!(line, original.matches('\n').count() + 1);
                original.push_str(&format!("{{{inside}}}"));
                assert_eq!(placeholder(&original[original.len() - inside.len() - 2..]), Some(inside));
                let reference = place.reference("VALUE");
                assert!(!reference.contains('\n') && reference.matches("${VALUE}").count() == 1);
                again.push_str(&reference.replace("${VALUE}", "{in.value}"));
                expected.push(if place == Place::Arithmetic { place } else { Place::Double });
            }
        }
    }
    assert_eq!(original, text);
    let places: Vec<Place> = match pieces(&again) {
        Ok(pieces) => pieces.into_iter().filter_map(place_of_value).collect(),
        // In a here-document the quotes of a reference inside `${…}` do what they should; of other quotes that is not known.
        Err(trouble) if trouble.what.starts_with("quotes inside") => return,
        Err(trouble) => panic!("{trouble:?} in {again:?}"),
    };
    assert_eq!(places, expected, "{again:?}");
});

fn place_of_value(piece: Piece<'_>) -> Option<Place> {
    match piece {
        Piece::Placeholder { inside: "in.value", place, .. } => Some(place),
        _ => None,
    }
}
