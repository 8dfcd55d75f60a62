//! Asking for memory before it is needed.

use std::slice::Chunks;

/// Values of a cache line, 64 bytes.
const LINE: usize = 16;

/// How near a fetched line is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    First,
    Second,
}

/// As much of `later` as is multiplied meanwhile, `length` values, in whole lines, a portion with each of `groups` groups of rows.
#[inline(always)]
pub(crate) fn portions(later: &[f32], length: usize, groups: usize) -> Chunks<'_, f32> {
    let portion = length.div_ceil(groups.max(1) * LINE).max(1) * LINE;
    later[..length.min(later.len())].chunks(portion)
}

/// Asks for the lines of `values`. Changes nothing but the time that reading them takes; does nothing where the machine
/// has no such instruction.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], cache: Cache) {
    for line in values.chunks(LINE) {
        fetch_line(line, cache);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch_line(line: &[f32], cache: Cache) {
    use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1};

    // All x86-64 machines have SSE, so this is decided when it is compiled.
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        let address = line.as_ptr().cast();
        match cache {
            Cache::First => sse._mm_prefetch::<_MM_HINT_T0>(address),
            Cache::Second => sse._mm_prefetch::<_MM_HINT_T1>(address),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fetch_line(_line: &[f32], _cache: Cache) {}
