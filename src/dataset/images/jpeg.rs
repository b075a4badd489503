//! Whether a JPEG file is all there: decoders fill what is missing with grey, and say nothing.

/// End of an image.
const EOI: u8 = 0xD9;
/// Start of a scan, whose entropy-coded data follow its segment.
const SOS: u8 = 0xDA;

/// Walks the segments of a JPEG file to its end-of-image marker (ITU T.81, annex B).
///
/// # Errors
/// The file ends before it, as Pillow says of such files too.
pub(super) fn check_complete(bytes: &[u8]) -> Result<(), String> {
    let truncated =
        || format!("the JPEG file is truncated: its {} bytes end before the image does", bytes.len());
    // After the start-of-image marker.
    let mut at = 2;
    loop {
        let (marker, after) = next_marker(bytes, at).ok_or_else(truncated)?;
        if marker == EOI {
            return Ok(());
        }
        let length = bytes.get(after..after + 2).ok_or_else(truncated)?;
        at = after + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if marker == SOS {
            at = end_of_scan(bytes, at).ok_or_else(truncated)?;
        }
    }
}

/// The next marker's code with the position after it; fill bytes and stray bytes before it are passed.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        let code = *bytes.get(at + 1)?;
        if bytes[at] == 0xFF && !is_data(code) && code != 0xFF {
            return Some((code, at + 2));
        }
        at += 1;
    }
}

/// Where the first marker after entropy-coded data stands.
fn end_of_scan(bytes: &[u8], at: usize) -> Option<usize> {
    let data = bytes.get(at..)?;
    let marker = data.windows(2).position(|pair| pair[0] == 0xFF && !is_data(pair[1]) && pair[1] != 0xFF)?;
    Some(at + marker)
}

/// After 0xFF: a stuffed zero, or a marker without a segment inside or before data (restarts, TEM).
const fn is_data(code: u8) -> bool {
    code <= 0x01 || (code >= 0xD0 && code <= 0xD7)
}
