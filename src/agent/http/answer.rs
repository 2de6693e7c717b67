//! Answers, and which header goes with what.
//!
//! In: text, bytes, or a file of the newest window. Out: a response. Names in a report come from others: a browser is told to
//! take each answer for what it is, and to run nothing on our behalf.

use std::path::Path;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::json;

use crate::agent::deep::{Deep, DeepError};
use crate::artifacts::read_inside;
use crate::profile::ProfileBuilder;
use crate::store::pprof;

/// A file of a window with more bytes is not sent.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// A window's files are for looking at: no script of theirs may reach this origin.
const POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Status {
    Ok = 200,
    BadRequest = 400,
    Unauthorized = 401,
    NotFound = 404,
    WrongMethod = 405,
    Busy = 429,
    Internal = 500,
    Unavailable = 503,
}

#[derive(Debug)]
pub(super) struct Answer {
    status: Status,
    body: Vec<u8>,
    kind: &'static str,
    extra: Vec<(hyper::header::HeaderName, HeaderValue)>,
}

impl Answer {
    pub fn text(status: Status, text: String, kind: &'static str) -> Answer {
        Answer {
            status,
            body: text.into_bytes(),
            kind,
            extra: Vec::new(),
        }
    }

    pub fn plain(status: Status, text: &str) -> Answer {
        Answer::text(status, format!("{text}\n"), "text/plain; charset=utf-8")
    }

    pub fn error(status: Status, why: &str) -> Answer {
        Answer::plain(status, why)
    }

    pub fn unauthorized() -> Answer {
        let mut answer = Answer::error(
            Status::Unauthorized,
            "a recording needs the token: `Authorization: Bearer TOKEN`, or http://:TOKEN@HOST/…",
        );
        let challenge = HeaderValue::from_static("Basic realm=\"perfprof\"");
        answer.extra.push((WWW_AUTHENTICATE, challenge));
        answer
    }

    pub fn refused(error: &DeepError) -> Answer {
        let status = match error {
            DeepError::Busy => Status::Busy,
            DeepError::Ending | DeepError::Abandoned => Status::Unavailable,
            DeepError::Failed { .. } | DeepError::Full { .. } | DeepError::Io(_) => {
                Status::Internal
            }
        };
        let mut answer = Answer::error(status, &error.to_string());
        if status == Status::Busy {
            answer
                .extra
                .push((RETRY_AFTER, HeaderValue::from_static("5")));
        }
        answer
    }

    /// A file of the newest window.
    pub fn file(latest: &Path, name: &str, kind: &'static str) -> Answer {
        match read_inside(latest, Path::new(name), MAX_FILE_BYTES) {
            Ok(Some(bytes)) => Answer {
                status: Status::Ok,
                body: bytes,
                kind,
                extra: Vec::new(),
            },
            Ok(None) => Answer::error(Status::NotFound, "no window has such a file yet"),
            Err(error) => Answer::error(Status::NotFound, &format!("the file {error}")),
        }
    }

    /// What a report links to.
    pub fn export(latest: &Path, name: &str) -> Answer {
        let kind = match name.rsplit('.').next() {
            Some("svg") => "image/svg+xml",
            Some("gz") => "application/octet-stream",
            _ => "text/plain; charset=utf-8",
        };
        Answer::file(latest, name, kind)
    }

    /// As Go's `net/http/pprof` sends it.
    pub fn profile(deep: Deep) -> Answer {
        let body = match deep.pprof_gz.is_empty() {
            // Nothing ran: a profile of nothing, which scrapers know from Go.
            true => pprof::encode(
                &ProfileBuilder::default().build(Default::default(), Default::default()),
            ),
            false => deep.pprof_gz,
        };
        let name = HeaderValue::from_static("attachment; filename=\"profile\"");
        let verdict = HeaderValue::from_static(deep.verdict);
        Answer {
            status: Status::Ok,
            body,
            kind: "application/octet-stream",
            extra: vec![
                (CONTENT_DISPOSITION, name),
                (
                    hyper::header::HeaderName::from_static("x-perfprof-verdict"),
                    verdict,
                ),
            ],
        }
    }

    pub fn recording(deep: &Deep) -> Answer {
        let told = json!({
            "directory": deep.directory,
            "verdict": deep.verdict,
            "profile_bytes": deep.pprof_gz.len(),
        });
        Answer::text(Status::Ok, format!("{told:#}\n"), "application/json")
    }

    pub fn into_response(self, head_only: bool) -> Response<Full<Bytes>> {
        let length = self.body.len();
        let body = if head_only { Vec::new() } else { self.body };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status as u16).expect("all of them are valid");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(
            "x-content-type-options",
            HeaderValue::from_static("nosniff"),
        );
        headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.extend(self.extra);
        response
    }
}
