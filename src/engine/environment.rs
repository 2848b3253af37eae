//! The circumstances of an execution, for the records; never keyed.

use crate::action::Environment;
use crate::device::Device;
use crate::model::device::target;
use std::sync::OnceLock;

/// Describes this program on this machine, given `threads` threads, and computing on `device`.
pub fn environment(threads: u32, device: Device) -> Environment {
    static FIXED: OnceLock<Environment> = OnceLock::new();
    let fixed = FIXED.get_or_init(|| Environment {
        program: format!("cistage {}", env!("CARGO_PKG_VERSION")),
        commit: option_env!("CISTAGE_COMMIT").map(str::to_owned),
        build: option_env!("CISTAGE_BUILD").and_then(|digest| digest.parse().ok()),
        os: os(),
        host: kernel("hostname").unwrap_or_default(),
        user: ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default(),
        cpu: processor(),
        cores: super::capacity::cores(),
        target: target(Device::Cpu),
        threads: 0,
        path: std::env::var("PATH").ok(),
    });
    let target = if device == Device::Cpu { fixed.target.clone() } else { target(device) };
    Environment { target, threads, ..fixed.clone() }
}

fn kernel(what: &str) -> Option<String> {
    Some(fs_err::read_to_string(format!("/proc/sys/kernel/{what}")).ok()?.trim().to_owned())
}

fn os() -> String {
    let name = kernel("ostype").unwrap_or_else(|| std::env::consts::OS.to_owned());
    let release = kernel("osrelease").unwrap_or_default();
    format!("{name} {release} {}", std::env::consts::ARCH)
}

fn processor() -> String {
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
