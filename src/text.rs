//! Text that is kept without an allocation.

use std::fmt;

/// The beginning of a text: at most N bytes, and no character cut in two.
#[derive(Clone, Copy)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) fn of(text: fmt::Arguments<'_>) -> Self {
        let mut kept = Self { bytes: [0; N], length: 0 };
        // What is too long is cut.
        let _ = fmt::Write::write_fmt(&mut kept, text);
        kept
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        // str::floor_char_boundary of Rust 1.91.
        let fits = (0..=text.len().min(room.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
