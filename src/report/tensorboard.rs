//! Curves as an event file that TensorBoard opens.
//!
//! The file is a row of records (TFRecord): the length of the data, its masked CRC-32C, the data and their masked
//! CRC-32C. The data are messages of `event.proto` and `summary.proto`, of which scalars need six fields.

/// One curve: its name, and its values over whole steps.
pub type Curve = (String, Vec<(f64, f64)>);

/// Gives the bytes of an event file; `began` is when the first value was made, in seconds since 1970.
pub fn event_file(began: f64, curves: &[Curve]) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, &event(began, 0, &text(3, "brain.Event:2")));
    for (name, points) in curves {
        for (step, value) in points {
            let mut scalar = text(1, name);
            scalar.push(tag(2, FIXED_32));
            // TensorBoard keeps single precision.
            scalar.extend((*value as f32).to_le_bytes());
            let summary = nested(5, &nested(1, &scalar));
            record(&mut file, &event(began, step.round() as u64, &summary));
        }
    }
    file
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

/// The key of a field, as protocol buffers write it.
fn tag(field: u8, kind: u8) -> u8 {
    field << 3 | kind
}

fn event(time: f64, step: u64, rest: &[u8]) -> Vec<u8> {
    let mut event = vec![tag(1, FIXED_64)];
    event.extend(time.to_le_bytes());
    event.push(tag(2, VARINT));
    varint(&mut event, step);
    event.extend_from_slice(rest);
    event
}

fn text(field: u8, text: &str) -> Vec<u8> {
    nested(field, text.as_bytes())
}

fn nested(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut nested = vec![tag(field, BYTES)];
    varint(&mut nested, bytes.len() as u64);
    nested.extend_from_slice(bytes);
    nested
}

fn varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend_from_slice(data);
    file.extend(masked(data));
}

/// The checksum of a record: rotated and shifted, so that a checksum of checksums is none.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of each record, its checksums found right.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut records = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let size = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
            assert_eq!(rest[..4], masked(length));
            let (data, rest) = rest[4..].split_at(size);
            assert_eq!(rest[..4], masked(data));
            records.push(data);
            file = &rest[4..];
        }
        records
    }

    #[test]
    fn a_record_holds_what_the_format_says() {
        let file = event_file(1.5, &[("loss".to_owned(), vec![(300.0, 0.25)])]);
        let records = records(&file);
        assert_eq!(records.len(), 2);
        let time = 1.5_f64.to_le_bytes();
        assert_eq!(records[0], [&[0x09][..], &time, b"\x10\x00\x1a\x0dbrain.Event:2"].concat());
        let scalar = [&b"\x0a\x04loss\x15"[..], &0.25_f32.to_le_bytes()].concat();
        let expected = [&[0x09][..], &time, b"\x10\xac\x02\x2a\x0d\x0a\x0b", &scalar].concat();
        assert_eq!(records[1], expected);
    }

    #[test]
    fn the_checksum_is_that_of_the_reference() {
        // The check value by which variants of CRC are told apart.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5_u32.to_le_bytes());
    }
}
