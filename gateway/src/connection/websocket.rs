//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2), as the client is sent them. Nothing is changed and
//! nothing is judged: all there is to know is where a frame of the gateway's own may stand.

/// CLOSE with code 1001, "going away" (RFC 6455 sections 5.5.1 and 7.4.1).
pub(super) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xE9];

/// The end of the head of the answer that opens the tunnel.
const HEAD_END: &[u8; 4] = b"\r\n\r\n";
/// The frame after which its sender says nothing more.
const CLOSE: u8 = 8;

/// What was sent to the client since the request became a tunnel.
#[derive(Debug, Default)]
pub(super) struct Frames {
    part: Part,
    is_closed: bool,
}

/// The part of the bytes that comes next.
#[derive(Debug)]
enum Part {
    /// The head of the answer, of whose end so many bytes were seen.
    Head(usize),
    /// The first byte of a frame: the boundary.
    Start,
    /// The byte with the short length.
    Length,
    /// So many bytes of a long length, after what was read of it.
    LongLength { left: u8, length: u64, mask: u64 },
    /// So many bytes until the next frame.
    Rest(u64),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(0)
    }
}

impl Frames {
    /// Reads what was sent.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Part::Rest(left) = self.part {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[n..];
                self.part = Part::before(left - u64::try_from(n).unwrap_or(left));
                continue;
            }
            self.part = self.next(byte);
            bytes = rest;
        }
    }

    /// Whether a frame may stand here that is the last one.
    pub(super) fn may_close(&self) -> bool {
        matches!(self.part, Part::Start) && !self.is_closed
    }

    fn next(&mut self, byte: u8) -> Part {
        match self.part {
            Part::Head(n_seen) => match n_seen {
                _ if HEAD_END.get(n_seen) != Some(&byte) => Part::Head(usize::from(byte == b'\r')),
                3 => Part::Start,
                _ => Part::Head(n_seen + 1),
            },
            Part::Start => {
                self.is_closed |= byte & 0x0F == CLOSE;
                Part::Length
            }
            Part::Length => {
                let mask = if byte & 0x80 == 0 { 0 } else { 4 };
                match byte & 0x7F {
                    126 => Part::LongLength { left: 2, length: 0, mask },
                    127 => Part::LongLength { left: 8, length: 0, mask },
                    length => Part::before(u64::from(length) + mask),
                }
            }
            Part::LongLength { left, length, mask } => {
                let length = length << 8 | u64::from(byte);
                match left {
                    1 => Part::before(length.saturating_add(mask)),
                    _ => Part::LongLength { left: left - 1, length, mask },
                }
            }
            Part::Rest(left) => Part::before(left.saturating_sub(1)),
        }
    }
}

impl Part {
    /// What comes when so many bytes of a frame are left.
    fn before(left: u64) -> Self {
        if left == 0 { Self::Start } else { Self::Rest(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    /// The places of `bytes` at which a frame may stand, however they are cut.
    fn boundaries(bytes: &[u8]) -> Vec<usize> {
        let mut one_by_one = Frames::default();
        let places = (0..=bytes.len()).filter(|end| {
            if let Some(last) = end.checked_sub(1) {
                one_by_one.follow(&bytes[last..*end]);
            }
            let mut at_once = Frames::default();
            at_once.follow(&bytes[..*end]);
            assert_eq!(at_once.may_close(), one_by_one.may_close(), "at {end}");
            at_once.may_close()
        });
        places.collect()
    }

    #[test]
    fn a_frame_may_stand_between_frames_only() {
        for (frame, what) in [
            (b"\x81\x05hello".to_vec(), "RFC 6455 section 5.7, a text"),
            (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec(), "a masked text"),
            (b"\x01\x03Hel".to_vec(), "a fragment: control frames may stand among them (section 5.4)"),
            (b"\x89\x00".to_vec(), "an empty ping"),
            ([&b"\x82\x7e\x01\x00"[..], &[0x88; 256]].concat(), "256 bytes"),
            ([&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &[0x88; 65536]].concat(), "64 KiB"),
        ] {
            let start = HEAD.len();
            let bytes = [HEAD, &frame, b"\x81\x01"].concat();
            // Longer frames are looked at by their ends: every byte of them would take minutes.
            if frame.len() < 1000 {
                assert_eq!(boundaries(&bytes), [start, start + frame.len()], "{what}");
            }
            let mut frames = Frames::default();
            frames.follow(&bytes[..start + frame.len() - 1]);
            assert!(!frames.may_close(), "{what}");
            frames.follow(&bytes[start + frame.len() - 1..start + frame.len()]);
            assert!(frames.may_close(), "{what}");
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut frames = Frames::default();
        frames.follow(HEAD);
        assert!(frames.may_close());
        frames.follow(GOING_AWAY);
        assert!(!frames.may_close());
    }

    #[test]
    fn the_head_of_the_answer_ends_at_its_empty_line() {
        let mut frames = Frames::default();
        frames.follow(b"HTTP/1.1 101 x\r\nA: b\r\r\n");
        assert!(!frames.may_close());
        frames.follow(b"\r\n");
        assert!(frames.may_close());
    }
}
