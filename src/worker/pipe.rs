//! Messages through pipes: each a frame ([`frame`]) around postcard bytes. A library that prints into the pipe, or a
//! process that dies inside a message, is noticed, and nothing of it is taken for a message.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::frame;

/// Writes one message and flushes.
///
/// # Errors
/// When the other end is closed.
pub(super) fn write(pipe: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let frame = frame::encode(&bytes).ok_or_else(|| io::Error::other("a message of 4 GiB"))?;
    pipe.write_all(&frame)?;
    pipe.flush()
}

/// Reads one message; none: the pipe is closed, between two messages or inside one.
///
/// # Errors
/// When what comes is no message.
pub(super) fn read<T: DeserializeOwned>(pipe: &mut impl Read) -> io::Result<Option<T>> {
    let mut bytes = vec![0; frame::HEAD];
    if !filled(pipe, &mut bytes)? {
        return Ok(None);
    }
    let strange = || io::Error::new(ErrorKind::InvalidData, "something else than messages came from it");
    let length = frame::claimed_length(&bytes).ok_or_else(strange)?;
    // Step by step: a damaged length must not ask for all memory.
    let read = pipe.take(length as u64).read_to_end(&mut bytes)?;
    if read < length {
        return Ok(None);
    }
    let [payload] = frame::decode(&bytes).payloads[..] else { return Err(strange()) };
    postcard::from_bytes(payload).map(Some).map_err(|_| strange())
}

/// Fills the buffer; false if the pipe closes before.
fn filled(pipe: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match pipe.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Unit;
    use crate::worker::protocol::Command;

    fn messages() -> Vec<Command> {
        let unit = Unit { cell: 3, sample: 70_000 };
        vec![
            Command::Solve { unit, again: true },
            Command::Fail { unit, error: "why".to_owned() },
            Command::Stop,
        ]
    }

    fn written() -> Vec<u8> {
        let mut pipe = Vec::new();
        messages().iter().for_each(|message| write(&mut pipe, message).unwrap());
        pipe
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let bytes = written();
        let mut pipe = &bytes[..];
        for message in messages() {
            assert_eq!(read::<Command>(&mut pipe).unwrap(), Some(message));
        }
        assert_eq!(read::<Command>(&mut pipe).unwrap(), None);
    }

    #[test]
    fn a_pipe_may_close_anywhere() {
        let bytes = written();
        for cut in 0..bytes.len() {
            let mut pipe = &bytes[..cut];
            while let Some(message) = read::<Command>(&mut pipe).unwrap() {
                assert!(messages().contains(&message));
            }
        }
    }

    #[test]
    fn other_output_is_no_message() {
        for text in [&b"warning: something was printed"[..], &[0; 64], b"DFf1\xff\xff\xff\xff1234 and more"] {
            let mut pipe = text;
            assert!(!matches!(read::<Command>(&mut pipe), Ok(Some(_))), "{text:?}");
        }
    }
}
