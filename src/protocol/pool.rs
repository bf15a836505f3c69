//! Buffers of large messages, kept for reuse.

/// Buffers that held large messages: initialised, and probably still in the processor's cache.
///
/// Bytes of an earlier message are never handed out, because a message ends with the last byte that
/// was read into its buffer.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// Most bytes that are kept for reuse.
    const MAX: usize = 8 << 20;

    /// Returns an initialised buffer of at least `size` bytes, and not many more.
    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| buffer.len() >= size && buffer.len() / 2 <= size;
        match self.spare.iter().rposition(fits) {
            Some(at) => {
                let buffer = self.spare.swap_remove(at);
                self.bytes -= buffer.len();
                buffer
            }
            None => vec![0; size],
        }
    }

    /// Keeps a large buffer, if there is room for it.
    pub(crate) fn put(&mut self, buffer: Vec<u8>) {
        let large = buffer.len() >= super::assembly::Assembly::LANDING_MIN;
        if large && self.bytes + buffer.capacity() <= Self::MAX {
            self.bytes += buffer.len();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_if_they_are_large_enough() {
        let mut pool = Pool::default();
        pool.put(vec![1; 100]);
        assert_eq!(pool.bytes, 0, "not worth keeping");
        pool.put(vec![1; 100_000]);
        pool.put(vec![2; 200_000]);
        assert_eq!(pool.take(150_000), vec![2; 200_000]);
        assert_eq!(pool.take(150_000), vec![0; 150_000]);
        assert_eq!(pool.take(1), vec![0; 1], "that would be out of proportion");
        assert_eq!(pool.take(60_000), vec![1; 100_000]);
        assert_eq!((pool.bytes, pool.spare.len()), (0, 0));
    }

    #[test]
    fn no_more_than_so_much_is_kept() {
        let mut pool = Pool::default();
        for _ in 0..20 {
            pool.put(vec![0; 1 << 20]);
        }
        assert_eq!(pool.spare.len(), 8);
        pool.put(Vec::with_capacity(Pool::MAX));
        assert_eq!(pool.bytes, Pool::MAX);
    }
}
