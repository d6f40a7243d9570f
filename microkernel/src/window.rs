//! Memory that a machine has vouched for once, so that reaching into it takes one comparison.

/// A piece of physical memory that the core may reach. What its base means only the machine knows that made it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: u64,
    bytes: u64,
}

impl Window {
    /// Of nothing.
    pub const NONE: Window = Window { base: 1, bytes: 0 };

    /// A piece of memory that begins at `base`.
    ///
    /// # Safety
    /// Whatever the machine does with a place in it, it may do with all `bytes` from `base` on, for ever.
    pub const unsafe fn new(base: u64, bytes: u64) -> Window {
        Window { base, bytes }
    }

    /// Its size.
    #[inline(always)]
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// So many bytes of it from an offset on; nothing if they are not all in it.
    pub fn part(self, offset: u64, bytes: u64) -> Window {
        self.place(offset, bytes).map_or(Window::NONE, |base| Window { base, bytes })
    }

    /// Where `length` bytes from an offset on lie, if all of them are in it.
    #[inline(always)]
    pub fn place(self, offset: u64, length: u64) -> Option<u64> {
        (length <= self.bytes && offset <= self.bytes - length).then(|| self.base + offset)
    }
}

impl Default for Window {
    fn default() -> Window {
        Window::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_what_is_in_it_and_nothing_else() {
        // SAFETY: nobody reaches into it.
        let window = unsafe { Window::new(4096, 16) };
        assert_eq!(
            (window.place(0, 16), window.place(8, 8), window.place(16, 0)),
            (Some(4096), Some(4104), Some(4112))
        );
        assert_eq!((window.place(9, 8), window.place(17, 0), window.place(u64::MAX, 2)), (None, None, None));
        assert_eq!((window.part(8, 8).place(0, 8), window.part(8, 8).place(0, 9)), (Some(4104), None));
        assert_eq!((window.part(8, 9).bytes(), window.part(17, 0).bytes()), (0, 0));
        assert_eq!((Window::NONE.place(0, 1), Window::default().bytes()), (None, 0));
    }
}
