//! When this process's memory comes in huge pages.
//!
//! The allocator asks for them, and a training is a seventh faster for it. To clear the first few takes longer than all
//! else that a short command does, so the program starts without.

/// Memory touched from now on comes in small pages, here and in the processes that this one starts.
pub fn avoid() {
    set(true);
}

/// Memory touched from now on may come in huge pages, here and in the processes that this one starts.
pub fn allow() {
    set(false);
}

fn set(avoided: bool) {
    #[cfg(target_os = "linux")]
    // SAFETY: this call takes numbers alone. Where the kernel does not know it, nothing changes.
    unsafe {
        let none: libc::c_ulong = 0;
        libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(avoided), none, none, none);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = avoided;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_kernel_heeds_both() {
        let none: libc::c_ulong = 0;
        // SAFETY: this call takes and gives numbers alone.
        let avoided = || unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, none, none, none, none) };
        super::avoid();
        assert_eq!(avoided(), 1);
        super::allow();
        assert_eq!(avoided(), 0);
    }
}
