//! A buffer of f32 that starts on a cache line, so that no vector load of packed weights or pixels is split.

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A zeroed f32 buffer aligned to 64 bytes.
#[derive(Clone, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Makes it `len` numbers long, whatever they are. Allocates only where it was never so long before, and then no more
    /// than that takes.
    pub(crate) fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if lines > self.lines.capacity() {
            self.lines = Vec::new();
            self.lines.reserve_exact(lines);
        }
        self.lines.resize(lines, Line([0.0; 16]));
        self.len = len;
    }
}

impl std::fmt::Debug for Aligned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({})", self.len)
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen f32 without padding, and `len` numbers fit in the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
