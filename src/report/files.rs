//! The sections about files that are no metrics: tables, pictures, folders.

use super::html::{Html, Table, escape};
use super::numbers;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::io;
use std::path::Path;

/// Files listed of a folder; the rest is counted.
const MAX_LISTED: usize = 200;

/// What a Parquet file says of itself.
pub struct ParquetSummary {
    pub rows: i64,
    /// Name and type of each column.
    pub columns: Vec<(String, String)>,
}

impl ParquetSummary {
    pub fn describe(&self) -> String {
        let has = |name: &str| self.columns.iter().any(|(column, _)| column == name);
        let what = if has("sequence") {
            "rows"
        } else if has("prediction") {
            "predictions"
        } else {
            "a table"
        };
        format!("{what}: {} rows (Parquet)", numbers::short(self.rows as f64))
    }
}

/// Reads the footer of a Parquet file; `None` where it is none after all.
pub fn parquet_summary(path: &Path) -> io::Result<Option<ParquetSummary>> {
    let Ok(reader) = SerializedFileReader::new(fs_err::File::open(path)?.into_file()) else { return Ok(None) };
    let footer = reader.metadata().file_metadata();
    let columns = footer
        .schema_descr()
        .columns()
        .iter()
        .map(|column| (column.path().string(), column.physical_type().to_string()))
        .collect();
    Ok(Some(ParquetSummary { rows: footer.num_rows(), columns }))
}

pub fn parquet_section(summary: &ParquetSummary) -> Html {
    let mut table = Table::new(&["column", "type"]);
    for (name, kind) in &summary.columns {
        table.row(|row| {
            row.header(name);
            row.text(kind);
        });
    }
    table.finish()
}

/// A picture that a browser can show from within the page.
pub struct Picture {
    pub media_type: &'static str,
    pub content: Vec<u8>,
}

impl Picture {
    /// The media type of a file that begins so.
    pub fn media_type(head: &[u8]) -> Option<&'static str> {
        let is_svg = head.starts_with(b"<svg") || (head.starts_with(b"<?xml") && contains(head, b"<svg"));
        if head.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some("image/png")
        } else if head.starts_with(&[0xff, 0xd8, 0xff]) {
            Some("image/jpeg")
        } else {
            is_svg.then_some("image/svg+xml")
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Shows a picture as an image: scripts and references inside an SVG stay dead there.
pub fn picture_section(port: &str, picture: &Picture) -> Html {
    Html::from_markup(format!(
        "<figure><img alt=\"{}\" src=\"data:{};base64,{}\"></figure>\n",
        escape(port),
        picture.media_type,
        base64(&picture.content)
    ))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (i, byte)| group | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// A file of a folder, with its path inside.
pub struct Listed {
    pub path: String,
    pub bytes: u64,
}

/// Lists the files of a folder by path; links are not followed.
pub fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else if kind.is_file() {
                files.push(Listed { path, bytes: entry.metadata()?.len() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

pub fn describe_folder(files: &[Listed]) -> String {
    let has = |name: &str| files.iter().any(|file| file.path == name);
    let what = if has("config.json") && has("model.safetensors") { "a model" } else { "a folder" };
    format!("{what}: {} files", files.len())
}

pub fn folder_section(files: &[Listed]) -> Html {
    let mut table = Table::new(&["file", "size"]);
    for file in files.iter().take(MAX_LISTED) {
        table.row(|row| {
            row.header(&file.path);
            row.number(&numbers::bytes(file.bytes));
        });
    }
    let mut html = table.finish();
    if files.len() > MAX_LISTED {
        html.note(&format!("and {} more", files.len() - MAX_LISTED));
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        let shown: Vec<String> = ["", "f", "fo", "foo", "foobar"].iter().map(|text| base64(text.as_bytes())).collect();
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy"]);
    }
}
