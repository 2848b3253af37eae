//! The `cistage` program: everything is in the library.

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

fn main() -> std::process::ExitCode {
    cistage::cli::main()
}
