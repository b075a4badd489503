//! A server of one file on this machine, with faults.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How one connection is answered.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// The file or the part that is asked for, with an ETag.
    File { bytes: Vec<u8>, etag: &'static str },
    /// As before, cut after so many bytes.
    Cut { bytes: Vec<u8>, etag: &'static str, after: usize },
    /// Always the whole file: the server knows no parts.
    Whole(Vec<u8>),
    /// A code.
    Status(u16),
}

/// Answers one connection after the other; the last reply is repeated.
pub(super) struct Server {
    pub(super) url: String,
    /// The range that each request asked for.
    pub(super) ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    pub(super) fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/files/weights.pt", listener.local_addr().unwrap());
        let ranges: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
        let seen = Arc::clone(&ranges);
        thread::spawn(move || {
            let mut replies: VecDeque<Reply> = replies.into();
            for stream in listener.incoming().flatten() {
                let reply = if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
                let Some(reply) = reply else { return };
                seen.lock().unwrap().push(answer(stream, &reply));
            }
        });
        Self { url, ranges }
    }

    pub(super) fn requests(&self) -> Vec<Option<u64>> {
        self.ranges.lock().unwrap().clone()
    }
}

/// Answers a request; the position it asked for. Errors are those of a client that has gone.
fn answer(mut stream: TcpStream, reply: &Reply) -> Option<u64> {
    let (mut range, mut if_range) = (None, None);
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                range =
                    value.trim().strip_prefix("bytes=").and_then(|r| r.trim_end_matches('-').parse().ok());
            }
            "if-range" => if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let (bytes, etag, cut) = match reply {
        Reply::Status(code) => {
            let _ = write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return range;
        }
        Reply::Whole(bytes) => (bytes, None, None),
        Reply::File { bytes, etag } => (bytes, Some(*etag), None),
        Reply::Cut { bytes, etag, after } => (bytes, Some(*etag), Some(*after)),
    };
    let same = etag.is_some_and(|etag| if_range.as_deref().is_none_or(|wanted| wanted == etag));
    let start = range.filter(|_| same).unwrap_or(0) as usize;
    if start >= bytes.len() {
        let _ = write!(
            stream,
            "HTTP/1.1 416 X\r\nContent-Range: bytes */{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            bytes.len()
        );
        return range;
    }
    let tag = etag.map_or(String::new(), |etag| format!("ETag: {etag}\r\n"));
    let status = if start > 0 {
        format!("206 Partial\r\nContent-Range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    let rest = &bytes[start..];
    let length = rest.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{tag}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(&rest[..cut.unwrap_or(length).min(length)]);
    range
}
