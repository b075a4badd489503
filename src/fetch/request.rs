//! One request for a file, or for the rest of it.

use std::io::Read;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

/// A connection that says nothing for so long is cut.
const SILENCE: Duration = Duration::from_secs(60);

/// What a server answers.
pub(super) enum Answer {
    /// Bytes of the file.
    Content(Content),
    /// The file ends at or before the byte that was asked for; its length if the server says it.
    BeyondEnd(Option<u64>),
    /// Another answer; trying again may help or not.
    Refused {
        /// The code.
        status: u16,
    },
}

/// The body of an answer.
pub(super) struct Content {
    /// Position of its first byte.
    pub(super) start: u64,
    /// Length of the whole file, if the server says it.
    pub(super) total: Option<u64>,
    /// What tells whether the file is still the same: the server's ETag, else its date.
    pub(super) validator: Option<String>,
    /// The bytes.
    pub(super) body: Box<dyn Read>,
}

/// An agent that uses the proxy of the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
pub(super) fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("dflow/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// Asks for a file; with `from`, for its rest from a position if it is still the one of this validator.
pub(super) fn get(agent: &Agent, url: &str, from: Option<(u64, &str)>) -> Result<Answer, String> {
    let mut request = agent.get(url);
    if let Some((position, validator)) = from {
        request = request.header("Range", format!("bytes={position}-")).header("If-Range", validator);
    }
    let response = request.call().map_err(|error| error.to_string())?;
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validator = strong(header("etag")).or_else(|| header("last-modified"));
    let range = header("content-range");
    match response.status().as_u16() {
        200 => {
            let total = header("content-length").and_then(|length| length.parse().ok());
            Ok(Answer::Content(Content { start: 0, total, validator, body: body(response) }))
        }
        206 => {
            let (start, total) = range
                .as_deref()
                .and_then(content_range)
                .ok_or_else(|| format!("the server sends a part and does not say which ({range:?})"))?;
            Ok(Answer::Content(Content { start, total, validator, body: body(response) }))
        }
        416 => {
            let total =
                range.as_deref().and_then(|range| range.trim().strip_prefix("bytes */")?.parse().ok());
            Ok(Answer::BeyondEnd(total))
        }
        status => Ok(Answer::Refused { status }),
    }
}

/// A weak ETag does not promise equal bytes.
fn strong(etag: Option<String>) -> Option<String> {
    etag.filter(|etag| !etag.starts_with("W/"))
}

/// First byte and length of the whole of `bytes 100-999/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn body(response: Response<Body>) -> Box<dyn Read> {
    // Without the agent's limit on bodies that are read into memory: these are written to a file.
    Box::new(response.into_body().into_with_config().limit(u64::MAX).reader())
}
