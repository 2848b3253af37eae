//! Links the program for Linux to a fixed address.
//!
//! A position-independent one has some thirty thousand pointers moved at each start: a tenth or more of
//! the time that `cistage --version` takes, paid again by the worker process of every stage.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
