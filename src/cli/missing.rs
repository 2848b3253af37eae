//! A command that was given no pipeline file: which one is meant, where only one is here.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::path::Path;

/// A longer first part of a file is not looked at for its form.
const FIRST: usize = 64 << 10;

/// Says what clap has to say, names the pipeline of this folder where one was left out, and gives the exit code.
pub(super) fn report(error: &clap::Error) -> u8 {
    // Where nobody can hear it, nothing else goes wrong.
    let _ = error.print();
    if let Some(file) = lacks_pipeline(error).then(|| only_pipeline(Path::new("."))).flatten() {
        super::printer::tell(format_args!("\nhelp: this folder has one pipeline: {file}"));
    }
    u8::from(error.use_stderr()) * 2
}

fn lacks_pipeline(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::MissingRequiredArgument
        && match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(missing)) => missing.iter().any(|name| name == "<PIPELINE>"),
            _ => false,
        }
}

/// The one file of a folder that is a pipeline.
fn only_pipeline(folder: &Path) -> Option<String> {
    let names = fs_err::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut pipelines = names.filter(|name| {
        let ends = Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        ends && is_pipeline(&folder.join(name))
    });
    let first = pipelines.next()?;
    pipelines.next().is_none().then_some(first)
}

fn is_pipeline(file: &Path) -> bool {
    use std::io::Read;
    let mut bytes = Vec::new();
    let is_file = file.is_file();
    let read = is_file.then(|| fs_err::File::open(file).ok()?.take(FIRST as u64).read_to_end(&mut bytes).ok());
    read.flatten().is_some() && String::from_utf8_lossy(&bytes).lines().any(|line| line.starts_with("cistage:"))
}
