//! Why a command may have failed: it names a file that lies in the user's folder, and that the stage does not see.

use crate::stages::Command;
use std::path::{Component, Path};

/// Of a long text no more words are looked at.
const MOST_WORDS: usize = 5000;

/// What other tools would have filled in, and bash leaves inside quotes.
const FOREIGN: [&str; 6] = ["{input", "{output", "{threads}", "{wildcards", "{params", "{config"];

/// What to declare, where a failed command or its log names a file of the folder `here` that is not in `work`.
pub(super) fn hint(command: &Command, log: &str, here: &Path, work: &Path) -> Option<String> {
    let script = command.run.iter().chain(command.argv.iter().flatten()).map(String::as_str);
    let texts: Vec<&str> = script.chain([log]).collect();
    let named = texts.iter().flat_map(|text| words(text)).take(MOST_WORDS);
    // Python names a module, not its file.
    let modules = log.split("No module named ").skip(1).filter_map(|rest| words(rest).next());
    let modules = modules.map(|name| format!("{}.py", name.split('.').next().unwrap_or(name)));
    let all = modules.chain(named.map(ToOwned::to_owned));
    if let Some(foreign) = FOREIGN.iter().find(|foreign| log.contains(*foreign)) {
        return Some(format!(
            "`{foreign}` reached the program as it is: write `{{in.NAME}}`, `{{out.NAME}}` or `{{param.NAME}}`"
        ));
    }
    let file = all.filter_map(|name| unseen(&name, here, work)).find(|file| !is_output(command, file))?;
    let port = port(&file);
    Some(format!(
        "`{file}` is in your folder, but a stage sees only what it declares: add `in: {{ {port}: ./{file} }}`, and write `{{in.{port}}}` for its path"
    ))
}

/// The words of a text as they might name files.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "'\"`,;:()[]{}<>|&=".contains(c)).filter(|word| !word.is_empty())
}

/// The name relative to the user's folder, where there is such a file, and none in the work directory.
fn unseen(name: &str, here: &Path, work: &Path) -> Option<String> {
    let path = Path::new(name);
    // A program may tell the whole path at which it looked in vain.
    let path = path.strip_prefix(work).or_else(|_| path.strip_prefix(here)).unwrap_or(path);
    let mut clean = path.components().filter(|part| *part != Component::CurDir).peekable();
    clean.peek()?;
    let file = clean
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect::<Option<Vec<&str>>>()?
        .join("/");
    (here.join(&file).is_file() && !work.join(&file).exists()).then_some(file)
}

/// Whether a file is what the command makes, as an earlier run published it.
fn is_output(command: &Command, file: &str) -> bool {
    command.out.values().any(|declared| declared.path == file)
}

/// A name for the input: the file's, as far as it can be one.
fn port(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("file");
    let word: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { format!("f{word}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_failed_command_names_are_told() {
        let here = tempfile::tempdir().expect("a temporary folder");
        let (here, work) = (here.path(), here.path().join("work"));
        fs_err::create_dir_all(work.join("in")).expect("makes");
        fs_err::create_dir_all(here.join("scripts")).expect("makes");
        for file in ["scripts/gc.py", "helper.py", "2nd.tsv", "work/seen.txt", "seen.txt"] {
            fs_err::write(here.join(file), "").expect("writes");
        }
        let hint = |run: &str, log: &str| {
            let command = Command { run: Some(run.to_owned()), ..Command::default() };
            hint(&command, log, here, &work)
        };
        let expected = "add `in: { gc: ./scripts/gc.py }`, and write `{in.gc}`";
        assert!(hint("python3 ./scripts/gc.py < {in.rows}", "").is_some_and(|text| text.contains(expected)));
        let tried = format!("python3: can't open file '{}/scripts/gc.py': [Errno 2]", work.display());
        assert!(hint("x", &tried).is_some_and(|text| text.contains(expected)));
        let module = "ModuleNotFoundError: No module named 'helper'";
        assert!(hint("x", module).is_some_and(|text| text.contains("{ helper: ./helper.py }")));
        let data = "FileNotFoundError: [Errno 2] No such file or directory: '2nd.tsv'";
        assert!(hint("x", data).is_some_and(|text| text.contains("{ f2nd: ./2nd.tsv }")));
        let quoted = "head: cannot open '{input}' for reading: No such file or directory";
        assert!(hint("head \"{input}\"", quoted).is_some_and(|text| text.contains("write `{in.NAME}`")));
        for quiet in ["cat seen.txt", "cat nothing.txt", "cat ../helper.py /etc/passwd", "echo work scripts"] {
            assert_eq!(hint(quiet, ""), None, "{quiet}");
        }
    }
}
