//! Buffers that sockets are read into.
//!
//! Not straight from the allocator: it goes round all the blocks that it has of a size, so that each read would be into memory
//! that the processor's cache has long forgotten. Here the one that was given back last is the next to be taken.

use std::cell::RefCell;

use bytes::{BufMut, Bytes};

/// Bytes of buffers of each size that a thread keeps.
const KEPT: usize = 1024 * 1024;
/// Less than this is not worth a buffer.
pub(super) const LITTLE: usize = 4 * 1024;

/// How much a buffer holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// An ordinary message.
    Small,
    /// A piece of a large body.
    Large,
}

impl Size {
    /// In bytes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Small => 16 * 1024,
            Self::Large => 128 * 1024,
        }
    }
}

/// A buffer, given back when it, and all that was read into it, is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    size: Size,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Spare {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Spare {
    fn of(&mut self, size: Size) -> &mut Vec<Vec<u8>> {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

impl Buffer {
    /// An empty one.
    pub(super) fn take(size: Size) -> Self {
        let spare = SPARE.with_borrow_mut(|spare| spare.of(size).pop());
        Self { size, bytes: spare.unwrap_or_else(|| Vec::with_capacity(size.bytes())) }
    }

    /// Where to read into.
    pub(super) fn room(&mut self) -> impl BufMut {
        let left = self.size.bytes() - self.bytes.len();
        (&mut self.bytes).limit(left)
    }

    /// What has been read.
    pub(super) fn into_bytes(self) -> Bytes {
        // Little is copied out: one who reads slowly would otherwise keep much memory for it.
        if self.bytes.len() < self.size.bytes() / 4 {
            Bytes::copy_from_slice(&self.bytes)
        } else {
            Bytes::from_owner(self)
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (size, mut bytes) = (self.size, std::mem::take(&mut self.bytes));
        bytes.clear();
        // A thread that ends has no spare ones any more.
        let _end = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            let spare = spare.of(size);
            if spare.len() < KEPT / size.bytes() {
                spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(size: Size, length: usize) -> Bytes {
        let mut buffer = Buffer::take(size);
        buffer.room().put_bytes(b'x', length);
        buffer.into_bytes()
    }

    #[test]
    fn the_buffer_that_was_given_back_last_is_taken_first() {
        let (first, second) = (read(Size::Large, 70_000), read(Size::Large, 70_000));
        let (first_at, second_at) = (first.as_ptr(), second.as_ptr());
        assert_ne!(first_at, second_at);
        let part = first.slice(10..20);
        drop(first);
        drop(second);
        let again = read(Size::Large, 50_000);
        assert_eq!((again.as_ptr(), again.len()), (second_at, 50_000));
        assert_ne!(read(Size::Large, 50_000).as_ptr(), first_at, "somebody still has a part of it");
        drop(part);
        assert_eq!(read(Size::Large, 50_000).as_ptr(), first_at);
    }

    #[test]
    fn little_does_not_keep_a_buffer() {
        for (size, little) in [(Size::Small, LITTLE - 1), (Size::Large, Size::Large.bytes() / 4 - 1)] {
            let at = {
                let mut buffer = Buffer::take(size);
                buffer.room().put_u8(b'x');
                buffer.bytes.as_ptr()
            };
            let copied = read(size, little);
            assert_eq!(read(size, size.bytes()).as_ptr(), at);
            assert_eq!(copied.len(), little);
        }
    }

    #[test]
    fn a_thread_keeps_a_bounded_number() {
        let taken: Vec<_> = (0..100).map(|_| read(Size::Large, Size::Large.bytes())).collect();
        drop(taken);
        let kept = SPARE.with_borrow(|spare| spare.large.len() * Size::Large.bytes());
        assert_eq!(kept, KEPT);
    }

    #[test]
    fn what_was_read_outlives_its_thread() {
        let read = std::thread::spawn(|| read(Size::Small, 5000)).join().unwrap();
        assert_eq!(read.len(), 5000);
    }
}
