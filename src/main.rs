//! The `cistage` program: everything is in the library.

use std::io::Write;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Called by the C library before the first allocation.
#[cfg(target_os = "linux")]
#[used]
// SAFETY: the section holds pointers to functions of this type; this one calls the kernel alone.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = {
    extern "C" fn at_start() {
        cistage::huge_pages::avoid();
    }
    at_start
};

fn main() {
    let code = cistage::cli::main();
    let _ = std::io::stdout().flush();
    // SAFETY: this call takes a number alone. It leaves out what is left to be called at an exit, which is the allocator
    // giving back page by page what the kernel takes back as a whole.
    unsafe { libc::_exit(code.into()) }
}
