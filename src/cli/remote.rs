//! The shared cache that a command works with: where it is, whose records are served, with which key it is written to.

use super::App;
use super::exit::CliError;
use super::keys::{self, KeyArg};
use crate::cache::Remote;
use crate::cache::remote::{Address, Trust};
use crate::site::{self, RemoteMode, Site};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RemoteArgs {
    /// A shared cache: s3://BUCKET/PREFIX, gs://…, az://CONTAINER/PREFIX, https://… (read alone), or a folder [default:
    /// `remote` in cistage.toml]
    #[arg(long, value_name = "URL", env = "CISTAGE_REMOTE")]
    remote: Option<String>,
    /// What a run does with the shared cache [default: `remote-mode` in cistage.toml, else read]
    #[arg(long, value_name = "MODE", value_enum)]
    remote_mode: Option<Mode>,
}

/// As `cistage.toml` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Serve from it, and add nothing
    Read,
    /// Serve from it, and add what was executed
    Write,
    Off,
}

/// The shared cache of a run; `None` where there is none, or where it can't be opened now, which is a warning.
pub(super) fn of_run(app: &App, args: &RemoteArgs, key: &KeyArg) -> Result<Option<Remote>, CliError> {
    let site = app.site()?;
    let mode = match args.remote_mode {
        None => site.remote_mode.unwrap_or_default(),
        Some(Mode::Read) => RemoteMode::Read,
        Some(Mode::Write) => RemoteMode::Write,
        Some(Mode::Off) => RemoteMode::Off,
    };
    let (Some(address), true) = (address(&site, args.remote.as_deref())?, mode != RemoteMode::Off) else {
        return Ok(None);
    };
    match open(&site, address, key, mode == RemoteMode::Write)? {
        Ok(remote) => Ok(Some(remote)),
        Err(what) => {
            app.printer.warning(&format!("the shared cache is left alone: {what}"));
            Ok(None)
        }
    }
}

/// The shared cache that a command is about.
pub(super) fn named(app: &App, url: Option<&str>, key: &KeyArg, writes: bool) -> Result<Remote, CliError> {
    let site = app.site()?;
    let address = site_address(&site, url)?;
    open(&site, address, key, writes)?.map_err(CliError::input)
}

/// The shared cache that is to be cleaned: nothing is taken from it, and nothing signed.
pub(super) fn to_clean(app: &App, url: Option<&str>) -> Result<Remote, CliError> {
    // The option may stand without a place, so it can't take the variable by itself.
    let set = std::env::var("CISTAGE_REMOTE").ok().filter(|value| !value.is_empty());
    Remote::open(site_address(&app.site()?, url.or(set.as_deref()))?, Trust::Any, None, true).map_err(CliError::input)
}

fn site_address(site: &Site, url: Option<&str>) -> Result<Address, CliError> {
    address(site, url)?.ok_or_else(|| {
        CliError::input_with_help("no shared cache is named", "give --remote URL, or `remote = …` in cistage.toml")
    })
}

fn address(site: &Site, url: Option<&str>) -> Result<Option<Address>, CliError> {
    let given = match (url, &site.remote) {
        (Some(url), _) => Some((url, Path::new(""))),
        (None, Some(url)) => Some((url.as_str(), site.folder.as_path())),
        (None, None) => None,
    };
    given.map(|(url, base)| Address::parse(url, base).map_err(CliError::input)).transpose()
}

/// The inner error says why it can't be opened now.
fn open(site: &Site, address: Address, key: &KeyArg, writes: bool) -> Result<Result<Remote, String>, CliError> {
    let secret = key.secret_where_there()?;
    let trust = match &site.trust {
        site::Trust::Any(_) => Trust::Any,
        site::Trust::Keys(files) => {
            let files: Vec<PathBuf> = files.iter().map(|file| site.folder.join(file)).collect();
            let mut trusted = keys::trusted(&files)?;
            // What one signed on another machine is one's own.
            trusted.extend(secret.as_ref().map(|secret| secret.public()));
            Trust::Keys(trusted)
        }
    };
    if writes && secret.is_none() && trust != Trust::Any {
        return Err(CliError::input_with_help(
            "there is no key to sign with what is added to the shared cache",
            "`cistage keys init` makes one, and others name its public half under `trust` in cistage.toml; where whoever may \
             write there is trusted, say trust = \"any\"",
        ));
    }
    Ok(Remote::open(address, trust, secret, writes))
}
