//! `cistage keys`: the key that runs are signed with.

use super::App;
use super::exit::CliError;
use crate::signature::{Public, Secret};
use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Make and show the key that `run --sign` uses
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key: a private file to sign with, and beside it a public one (`.pub`) for those who check
    Init(KeyArg),
    /// Show the public key, and its id
    Show(KeyArg),
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct KeyArg {
    /// The private key [default: cistage/key.pem in the user's configuration folder]
    #[arg(long, value_name = "FILE", env = "CISTAGE_KEY")]
    key: Option<PathBuf>,
}

impl KeyArg {
    fn path(&self) -> Result<PathBuf, CliError> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let config =
            config.ok_or_else(|| CliError::input("there is no home folder to look for a key in: give --key FILE"))?;
        Ok(config.join("cistage").join("key.pem"))
    }

    /// Reads the private key where there is one; a file that somebody named has to be there.
    pub(super) fn secret_where_there(&self) -> Result<Option<Secret>, CliError> {
        let is_there = self.key.is_some() || self.path().is_ok_and(|path| path.exists());
        is_there.then(|| self.secret()).transpose()
    }

    /// Reads the private key.
    pub(super) fn secret(&self) -> Result<Secret, CliError> {
        let path = self.path()?;
        let text = read(&path, "`cistage keys init` makes a key")?;
        Secret::from_pem(&text).map_err(|what| CliError::input(format!("{} {what}", path.display())))
    }
}

/// Reads the public keys that somebody trusts.
pub(super) fn trusted(files: &[PathBuf]) -> Result<Vec<Public>, CliError> {
    let one = |path: &PathBuf| {
        let text = read(path, "the public key of `cistage keys init` ends in .pub")?;
        Public::from_pem(&text).map_err(|what| CliError::input(format!("{} {what}", path.display())))
    };
    files.iter().map(one).collect()
}

fn read(path: &Path, help: &str) -> Result<String, CliError> {
    let wrong = |error: std::io::Error| CliError::input_with_help(format!("no key to read: {error}"), help);
    fs_err::read_to_string(path).map_err(wrong)
}

pub(super) fn run(app: &App, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Init(key) => init(app, &key.path()?),
        Command::Show(key) => {
            let public = key.secret()?.public();
            app.printer.line(public.to_pem().trim_end())?;
            app.printer.note(&format!("id {}", public.id()));
            Ok(())
        }
    }
}

fn init(app: &App, path: &Path) -> Result<(), CliError> {
    let public = path.with_added_extension("pub");
    if path.exists() || public.exists() {
        let message = format!("{} is there already, and what it signed needs it", path.display());
        return Err(CliError::input_with_help(message, "name another with --key FILE"));
    }
    let secret = Secret::generate()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder)?;
    }
    // Private from its first moment on.
    let mut file = fs_err::OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    file.open(path)?.write_all(secret.to_pem().as_bytes())?;
    fs_err::write(&public, secret.public().to_pem())?;
    app.printer.line(&format!("private key: {} (keep it to yourself)", path.display()))?;
    app.printer.line(&format!("public key:  {} (give it to those who check)", public.display()))?;
    app.printer.line(&format!("id:          {}", secret.public().id()))
}
