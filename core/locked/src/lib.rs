//! Memory for keys. The one crate of atrest with unsafe code: it asks the kernel for pages, and for
//! what it should do with them.
#![allow(
    unsafe_code,
    reason = "pages are mapped, advised, locked and unmapped by address"
)]

use std::alloc::Layout;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::{fmt, io, ptr, slice};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use zeroize::Zeroize;

/// A secret in pages of its own, between two that nobody can touch. As far as the kernel grants it
/// these pages are locked (never in the swap), in no core dump, and empty in a child process. Zeroized
/// on drop, masked in `Debug`.
///
/// What is in the value has to be the secret itself, not what points to it: no `Vec`.
pub struct Locked<T> {
    /// The first page that can be touched.
    value: NonNull<T>,
}

// SAFETY: the pages belong to this value alone, which is as good as the `T` in them.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above; shared references give shared references only.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves the value there. Where it was before is the caller's to zeroize: see
    /// [`zeroize::zeroize_stack`]. Ends the process where there is no memory, as every allocation
    /// does.
    pub fn new(value: T) -> Self {
        const { assert!(align_of::<T>() <= 4096, "no page is aligned like that") };
        let Ok(pages) = map(size_of::<T>()) else {
            std::alloc::handle_alloc_error(Layout::new::<T>())
        };
        let pages = pages.cast::<T>();
        // SAFETY: so many bytes were just mapped, writable and aligned, and nobody else knows them.
        unsafe { pages.write(value) };
        Self { value: pages }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value was written when this was made, and lives as long.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        let length = size_of::<T>();
        // SAFETY: the value is there and nobody else refers to it. Afterwards its bytes, and then the
        // mapping that was made for it, go; none of them is used again.
        unsafe {
            self.value.drop_in_place();
            let bytes = self.value.cast::<MaybeUninit<u8>>();
            slice::from_raw_parts_mut(bytes.as_ptr(), length).zeroize();
            unmap(self.value.cast(), length);
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<a secret>")
    }
}

/// Pages of zeros for so many bytes, with a guard before and one behind.
fn map(length: usize) -> io::Result<NonNull<u8>> {
    let (page, inner) = (page(), pages(length));
    // SAFETY: a new mapping at an address that the kernel chooses.
    let guard = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            inner + 2 * page,
            ProtFlags::empty(),
            MapFlags::PRIVATE,
        )
    }?;
    // SAFETY: the second page of the mapping, which has three at least.
    let start = unsafe { guard.byte_add(page) };
    // SAFETY: all of these are about the pages that were just mapped and that nobody else knows.
    unsafe {
        let opened = rustix::mm::mprotect(start, inner, MprotectFlags::READ | MprotectFlags::WRITE);
        if let Err(error) = opened {
            let _ = rustix::mm::munmap(guard, inner + 2 * page);
            return Err(error.into());
        }
        note("mlock", rustix::mm::mlock(start, inner));
        let advise = |advice| rustix::mm::madvise(start, inner, advice);
        note("MADV_DONTDUMP", advise(Advice::LinuxDontDump));
        note("MADV_WIPEONFORK", advise(Advice::LinuxWipeOnFork));
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Undoes [`map`].
///
/// # Safety
///
/// The address and the length are those of one [`map`], and nothing refers to its pages any more.
unsafe fn unmap(start: NonNull<u8>, length: usize) {
    let page = page();
    // SAFETY: what the caller vouches for; the guard stands before the pages.
    unsafe {
        let guard = start.as_ptr().sub(page).cast::<c_void>();
        // Fails for addresses alone that are none, which these are not.
        let _ = rustix::mm::munmap(guard, pages(length) + 2 * page);
    }
}

/// What the kernel refused first, ever.
static REFUSED: OnceLock<String> = OnceLock::new();

/// What the kernel refused to do for pages of this process, if anything: they hold keys
/// nevertheless.
pub fn refused() -> Option<&'static str> {
    REFUSED.get().map(String::as_str)
}

fn note(what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        REFUSED.get_or_init(|| format!("{what}: {error}"));
    }
}

fn page() -> usize {
    rustix::param::page_size()
}

/// The size of the pages that so many bytes take: one at least.
fn pages(length: usize) -> usize {
    length.max(1).next_multiple_of(page())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The mapping that an address is in, as `/proc/self/smaps` describes it.
    fn mapping(address: usize) -> Option<String> {
        let maps = std::fs::File::open("/proc/self/smaps").unwrap();
        let maps = io::read_to_string(maps).unwrap();
        let mut found = None;
        for line in maps.lines() {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let bounds = range.and_then(|(start, end)| {
                let parse = |text| usize::from_str_radix(text, 16).ok();
                Some(parse(start)?..parse(end)?)
            });
            match (bounds, &mut found) {
                (Some(bounds), None) if bounds.contains(&address) => found = Some(String::new()),
                (Some(_), Some(_)) => return found,
                (None, None) => continue,
                _ => {}
            }
            if let Some(found) = &mut found {
                *found += line;
                *found += "\n";
            }
        }
        found
    }

    #[test]
    fn the_pages_are_locked_in_no_dump_wiped_in_children_and_between_guards() {
        let secret = Locked::new(*b"hunter2");
        assert_eq!(*secret, *b"hunter2");
        assert_eq!(format!("{secret:?}"), "<a secret>");
        let address = secret.value.as_ptr() as usize;
        let described = mapping(address).unwrap();
        let flags = described.lines().find(|line| line.starts_with("VmFlags:"));
        let flags: Vec<_> = flags.unwrap().split_whitespace().collect();
        assert!(
            flags.contains(&"dd") && flags.contains(&"wf"),
            "{described}"
        );
        // Locked, or it is known why not.
        assert!(flags.contains(&"lo") || refused().is_some(), "{described}");
        for guard in [address - 1, address + page()] {
            let described = mapping(guard).unwrap();
            assert!(described.contains(" ---p "), "{described}");
        }
        drop(secret);
        assert!(mapping(address).is_none_or(|described| !described.contains(" dd ")));
    }

    #[test]
    fn what_is_in_it_is_dropped_once() {
        let (alone, shared) = (Arc::new(()), Arc::new(()));
        let secret = Locked::new((Arc::clone(&shared), [7; 5000]));
        assert_eq!(Arc::strong_count(&shared), 2);
        assert_eq!(secret.1[4999], 7);
        drop(secret);
        assert_eq!(Arc::strong_count(&shared), Arc::strong_count(&alone));
        let _nothing = Locked::new(());
    }
}
