//! Frames: how bytes are written so that a torn or damaged end is found, whatever the bytes are.
//!
//! `magic (4) | length: u32 LE | CRC-32 of length and payload: u32 LE | payload`. A reader takes frames until the
//! first that does not hold. (An Arrow IPC stream alone is not enough: of single flipped bits in its last record,
//! two of three were read as valid data.)

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"DFf1";
/// Bytes before a payload.
pub const HEAD: usize = 12;

/// One frame around `payload`, or `None` if it is too long (4 GiB).
pub fn encode(payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend(MAGIC);
    frame.extend(length);
    frame.extend(checksum(length, payload).to_le_bytes());
    frame.extend(payload);
    Some(frame)
}

/// The whole frames at the start of some bytes, and what follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames<'a> {
    /// Payloads in order.
    pub payloads: Vec<&'a [u8]>,
    /// Bytes that the frames take.
    pub good: usize,
    /// Bytes after them: not zero if the writer died inside a frame, or if the file is damaged.
    pub torn: usize,
}

/// Reads frames up to the first bad one.
pub fn decode(bytes: &[u8]) -> Frames<'_> {
    let mut payloads = Vec::new();
    let mut rest = bytes;
    while let Some((payload, after)) = split(rest) {
        payloads.push(payload);
        rest = after;
    }
    Frames { payloads, good: bytes.len() - rest.len(), torn: rest.len() }
}

/// The payload of the first frame and the bytes after it, if that frame holds.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (payload, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (checksum(*length, payload) == u32::from_le_bytes(*crc)).then_some((payload, after))
}

/// The payload's length that the first [`HEAD`] bytes of a frame claim, if they are such: to read no more of a file
/// than one frame. Only [`decode`] tells whether it is true.
pub fn claimed_length(head: &[u8]) -> Option<usize> {
    let length = head.strip_prefix(&MAGIC)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        payloads.iter().flat_map(|payload| encode(payload).unwrap()).collect()
    }

    #[test]
    fn every_truncation_keeps_the_whole_frames_before_it() {
        let bytes = file(&[b"first", b"", b"third"]);
        let ends = [17, 29, 46];
        for cut in 0..=bytes.len() {
            let frames = decode(&bytes[..cut]);
            assert_eq!(frames.payloads.len(), ends.iter().filter(|&&end| end <= cut).count());
            assert_eq!(frames.good + frames.torn, cut);
        }
    }

    #[test]
    fn every_flipped_bit_ends_the_frames_before_it() {
        let bytes = file(&[b"first", b"second", b"third"]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let frames = decode(&damaged);
            let hit = [17, 35, 52].iter().filter(|&&end| end <= bit / 8).count();
            assert_eq!(frames.payloads.len(), hit, "bit {bit}");
            assert_eq!(frames.payloads, decode(&bytes).payloads[..hit]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let frames = decode(&bytes);
            prop_assert_eq!(frames.good + frames.torn, bytes.len());
        }

        #[test]
        fn garbage_after_frames_is_the_torn_tail(
            payload in proptest::collection::vec(any::<u8>(), 0..50),
            garbage in proptest::collection::vec(any::<u8>(), 1..50),
        ) {
            let mut bytes = encode(&payload).unwrap();
            bytes.extend(&garbage);
            let frames = decode(&bytes);
            prop_assert_eq!(frames.payloads, vec![&payload[..]]);
            prop_assert_eq!(frames.torn, garbage.len());
        }
    }
}
