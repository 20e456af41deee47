//! Memory as the kernels like it: aligned to cache lines, written once, shared between threads.

use memmap2::MmapMut;
use std::{cell::Cell, marker::PhantomData};

/// From so many bytes on a weight gets pages of its own, large ones where the system has them: a
/// step passes through all of it, and would look up every small page anew.
const LARGE: usize = 4 << 20;

thread_local! {
    static MEMORY: Cell<Buffer> = Cell::default();
}

/// Memory of this thread for at least `len` values; what is in it is left over from before. To be
/// [given back](give_back).
pub(super) fn borrow_memory<T: Plain>(len: usize) -> Buffer {
    let mut memory = MEMORY.take();
    memory.reserve::<T>(len);
    memory
}

/// Keeps memory for the next time.
pub(super) fn give_back(memory: Buffer) {
    MEMORY.set(memory);
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Bytes that begin on a cache line.
pub(crate) struct Buffer {
    memory: Memory,
}

enum Memory {
    Heap(Vec<Line>),
    Pages(MmapMut),
}

/// What may lie in a [`Buffer`].
///
/// # Safety
/// Every pattern of bits is a value, there are no gaps, and [`LINE`] is a multiple of the alignment.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: numbers.
unsafe impl Plain for i8 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for half::f16 {}
// SAFETY: numbers.
unsafe impl Plain for half::bf16 {}

impl Default for Buffer {
    /// Without any room.
    fn default() -> Self {
        Self::zeroed::<u8>(0)
    }
}

impl Buffer {
    /// Room for `len` values, all bits zero; some more is there, up to a full line.
    pub(crate) fn zeroed<T: Plain>(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        Self {
            memory: Memory::Heap(vec![Line([0; LINE]); lines]),
        }
    }

    /// The same for a weight, which stays as long as its model and is read from end to end.
    pub(crate) fn for_weight<T: Plain>(len: usize) -> Self {
        let bytes = (len * size_of::<T>()).next_multiple_of(LINE);
        if bytes < LARGE {
            return Self::zeroed::<T>(len);
        }
        // The heap knows better what to do when there is no memory.
        let Ok(pages) = MmapMut::map_anon(bytes) else {
            return Self::zeroed::<T>(len);
        };
        #[cfg(target_os = "linux")]
        if let Err(error) = pages.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "the system has no large pages");
        }
        Self {
            memory: Memory::Pages(pages),
        }
    }

    /// Makes room for at least `len` values; what is in it stays or becomes zero.
    pub(crate) fn reserve<T: Plain>(&mut self, len: usize) {
        let bytes = len * size_of::<T>();
        if bytes <= self.bytes() {
            return;
        }
        match &mut self.memory {
            Memory::Heap(lines) => lines.resize(bytes.div_ceil(LINE), Line([0; LINE])),
            Memory::Pages(_) => {
                let mut larger = Self::zeroed::<T>(len);
                larger.as_mut_slice::<u8>()[..self.bytes()].copy_from_slice(self.as_slice());
                *self = larger;
            }
        }
    }

    /// Makes room for so many bytes in pages of its own, which take no memory before they are written, and move
    /// without a copy where the system can. What is in it stays, the rest is zero.
    fn reserve_pages(&mut self, bytes: usize) {
        #[cfg(target_os = "linux")]
        if let Memory::Pages(pages) = &mut self.memory {
            let options = memmap2::RemapOptions::new().may_move(true);
            // SAFETY: there is no file behind them that could end before.
            if unsafe { pages.remap(bytes, options) }.is_ok() {
                return;
            }
        }
        let memory = MmapMut::map_anon(bytes).map_or_else(
            // The heap knows better what to do when there is no memory.
            |_| Self::zeroed::<u8>(bytes).memory,
            Memory::Pages,
        );
        let mut larger = Self { memory };
        larger.as_mut_slice::<u8>()[..self.bytes()].copy_from_slice(self.as_slice());
        *self = larger;
    }

    /// Everything as values.
    pub(crate) fn as_slice<T: Plain>(&self) -> &[T] {
        let len = self.bytes() / size_of::<T>();
        let first = match &self.memory {
            Memory::Heap(lines) => lines.as_ptr().cast(),
            Memory::Pages(pages) => pages.as_ptr(),
        };
        // SAFETY: `T` is plain and needs no more alignment than a line or a page; the length is what
        // is there.
        unsafe { std::slice::from_raw_parts(first.cast(), len) }
    }

    /// Everything as values to write.
    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        let len = self.bytes() / size_of::<T>();
        let first = match &mut self.memory {
            Memory::Heap(lines) => lines.as_mut_ptr().cast(),
            Memory::Pages(pages) => pages.as_mut_ptr(),
        };
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(first.cast(), len) }
    }

    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(lines) => size_of_val(&**lines),
            Memory::Pages(pages) => pages.len(),
        }
    }
}

/// Values that become more while they are used, as a cache does.
pub(crate) struct Growing<T> {
    memory: Buffer,
    len: usize,
    values: PhantomData<T>,
}

impl<T> Default for Growing<T> {
    /// Without any.
    fn default() -> Self {
        Self {
            memory: Buffer::default(),
            len: 0,
            values: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Growing<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Growing").field("len", &self.len).finish()
    }
}

impl<T: Plain> Growing<T> {
    /// Makes them at least `len`; those that are new are zero.
    pub(crate) fn grow(&mut self, len: usize) {
        let bytes = len * size_of::<T>();
        if bytes > self.memory.bytes() {
            self.memory.reserve_pages(bytes.next_power_of_two());
        }
        self.len = self.len.max(len);
    }

    /// All of them.
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.memory.as_slice()[..self.len]
    }

    /// All of them, to write.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory.as_mut_slice()[..self.len]
    }
}

/// Memory that several threads write, each other cells of it.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a, T> {
    first: *mut T,
    len: usize,
    memory: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a pointer; who writes through it vouches for not writing where others do.
unsafe impl<T: Send> Send for Cells<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Cells<'_, T> {}

impl<'a, T: Copy> Cells<'a, T> {
    /// The cells of a slice.
    pub(crate) fn of(slice: &'a mut [T]) -> Self {
        Self {
            first: slice.as_mut_ptr(),
            len: slice.len(),
            memory: PhantomData,
        }
    }

    /// How many there are.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// A pointer to `count` cells from `start`.
    #[inline(always)]
    pub(crate) fn at(self, start: usize, count: usize) -> *mut T {
        debug_assert!(start + count <= self.len, "outside of the memory");
        // wrapping: a pointer that is not followed may be anything
        self.first.wrapping_add(start)
    }

    /// Some cells as a slice.
    ///
    /// # Safety
    /// They hold values, and nobody else touches them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn slice(&self, start: usize, count: usize) -> &'a mut [T] {
        assert!(start + count <= self.len, "outside of the memory");
        // SAFETY: inside of the memory, which lives for `'a`; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), count) }
    }
}

/// A vector of `len` values that `write` writes.
///
/// The memory is not cleared before, which would cost as much as a small layer.
///
/// # Safety
/// `write` writes every cell, and reads none before.
pub(crate) unsafe fn written<T: Copy>(len: usize, write: impl FnOnce(Cells<'_, T>)) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    write(Cells {
        first: values.as_mut_ptr(),
        len,
        memory: PhantomData,
    });
    // SAFETY: the capacity is there, and the caller vouches that all is written.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_keeps_its_values() {
        let mut growing = Growing::<i32>::default();
        assert!(growing.as_slice().is_empty());
        for len in [0, 1, 5, 5000, 4000, 300_000] {
            let before = growing.as_slice().to_vec();
            growing.grow(len);
            let (same, new) = growing.as_slice().split_at(before.len());
            assert_eq!(same, before);
            assert!(new.iter().all(|value| *value == 0));
            assert_eq!(growing.as_slice().len(), before.len().max(len));
            for (i, value) in growing.as_mut_slice().iter_mut().enumerate() {
                *value = i as i32 + 1;
            }
        }
    }
}
