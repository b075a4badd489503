//! Asks the CPU for memory ahead of its use.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction takes a raw pointer"))]

/// Asks for the line of the second-level cache that holds the number `index` of `numbers`, if there is one and the CPU can be
/// asked. A hint: nothing is read, and no result depends on it.
#[inline(always)]
pub(super) fn prefetch<T>(numbers: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(number) = numbers.get(index) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch faults at no address; this one is of a live reference besides.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(number).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, index);
}
