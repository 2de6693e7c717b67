//! What an answer means for the batch: it arrived, it may be tried again, or it never will arrive.
//!
//! In: HTTP status codes, gRPC status codes, and what else an answer says. Out: an [`Outcome`].
//! Source: OTLP specification 1.10, "OTLP/gRPC Response", "OTLP/HTTP Response"; gRPC, "HTTP to gRPC status code mapping".

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use prost::Message;

/// A backend's words are cut here.
const MAX_WHY_CHARS: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered {
        /// Profiles that were left out, and what the backend had to say.
        rejected_profiles: u64,
        note: Option<String>,
    },
    Retry(Retry),
    /// Not now and not later.
    Rejected {
        why: String,
    },
}

/// A failure that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) why: String,
    /// What the backend asks for.
    pub(super) after: Option<Duration>,
    /// The backend is busy or cannot be reached, whatever is sent: the batch has no part in it.
    pub(super) busy: bool,
}

impl Outcome {
    pub(super) fn delivered() -> Outcome {
        Outcome::Delivered {
            rejected_profiles: 0,
            note: None,
        }
    }

    /// There was no answer.
    pub(super) fn no_answer(why: impl std::fmt::Display, reached: bool) -> Outcome {
        Outcome::Retry(Retry {
            why: shown(why),
            after: None,
            busy: !reached,
        })
    }
}

/// What to make of an HTTP status that is not a success. `only_listed`: as OTLP has it, where 408 and 500 are final.
pub(super) fn of_http(
    status: u16,
    retry_after: Option<Duration>,
    said: &str,
    only_listed: bool,
) -> Outcome {
    let why = match said {
        "" => format!("HTTP status {status}"),
        said => format!("HTTP status {status}: {}", shown(said)),
    };
    let retryable = match status {
        429 | 502 | 503 | 504 => true,
        408 | 500..=599 => !only_listed && status != 501 && status != 505,
        _ => false,
    };
    match (retryable, status) {
        (true, _) => Outcome::Retry(Retry {
            why,
            after: retry_after,
            busy: matches!(status, 429 | 503),
        }),
        (false, 300..=399) => Outcome::Rejected {
            why: format!("{why}: redirects are not followed, since headers may hold secrets"),
        },
        (false, _) => Outcome::Rejected { why },
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3). What cannot be read is as if absent.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// The codes of gRPC that are met here by name; `google/rpc/code.proto` has the numbers.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const UNAUTHENTICATED: i32 = 16;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const UNIMPLEMENTED: i32 = 12;
}

const CODE_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
const RETRYABLE_CODES: [i32; 6] = [1, 4, 10, 11, 14, 15];

/// How a gRPC call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    pub(super) code: i32,
    pub(super) message: String,
    /// `RetryInfo` of the status's details.
    pub(super) retry_after: Option<Duration>,
}

impl GrpcStatus {
    /// From the values of `grpc-status`, `grpc-message` and `grpc-status-details-bin`.
    pub(super) fn read(code: &str, message: &[u8], details: Option<&[u8]>) -> GrpcStatus {
        GrpcStatus {
            code: code.trim().parse().unwrap_or(code::UNKNOWN),
            message: percent_decoded(message),
            retry_after: details.and_then(retry_info),
        }
    }

    /// Of an answer without a gRPC status, as something between us and the backend gives it.
    pub(super) fn of_http(status: u16) -> GrpcStatus {
        let code = match status {
            400 => code::INTERNAL,
            401 => code::UNAUTHENTICATED,
            403 => code::PERMISSION_DENIED,
            404 => code::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => code::UNAVAILABLE,
            _ => code::UNKNOWN,
        };
        GrpcStatus {
            code,
            message: format!("HTTP status {status} without a gRPC status"),
            retry_after: None,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == code::OK
    }

    /// What to make of a status that is not OK.
    pub(super) fn outcome(&self) -> Outcome {
        let index = usize::try_from(self.code).ok();
        let name = index.and_then(|index| CODE_NAMES.get(index)).copied();
        let name = name.unwrap_or("an unknown status");
        let why = match &*self.message {
            "" => name.to_owned(),
            said => format!("{name}: {}", shown(said)),
        };
        let exhausted = self.code == code::RESOURCE_EXHAUSTED && self.retry_after.is_some();
        match exhausted || RETRYABLE_CODES.contains(&self.code) {
            true => Outcome::Retry(Retry {
                why,
                after: self.retry_after,
                busy: exhausted || self.code == code::UNAVAILABLE,
            }),
            false => Outcome::Rejected { why },
        }
    }
}

/// `google.rpc.Status`, which OTLP's HTTP answers are, too. Field numbers: `google/rpc/status.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RpcStatus {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`; field number: `google/rpc/error_details.proto`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_info(details: &[u8]) -> Option<Duration> {
    // Padding is left to the sender.
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, config)
        .decode(details)
        .ok()?;
    RpcStatus::decode(&*bytes).ok()?.retry_after()
}

impl RpcStatus {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let mut details = self.details.iter();
        let any = details.find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(&*any.value).ok()?.retry_delay?;
        // Less than nothing is nothing.
        let seconds = u64::try_from(delay.seconds).unwrap_or_default();
        let nanos = u32::try_from(delay.nanos).unwrap_or_default();
        Some(Duration::new(seconds, nanos.min(999_999_999)))
    }
}

/// `grpc-message` is percent-encoded UTF-8.
fn percent_decoded(text: &[u8]) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match (first, more) {
            (b'%', [high, low, ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let value = hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0);
                bytes.push(value);
                rest = &more[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Words that a backend may have chosen, fit for a terminal.
pub(super) fn shown(why: impl std::fmt::Display) -> String {
    let text = why.to_string();
    let cut: String = text.trim().chars().take(MAX_WHY_CHARS).collect();
    cut.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Retry(Retry { busy: true, .. }) => "busy",
            Outcome::Retry(_) => "retry",
            Outcome::Rejected { .. } => "rejected",
        }
    }

    #[test]
    fn http_statuses_are_judged_by_the_tables_of_their_protocols() {
        for (status, otlp, others) in [
            (400, "rejected", "rejected"),
            (401, "rejected", "rejected"),
            (408, "rejected", "retry"),
            (413, "rejected", "rejected"),
            (429, "busy", "busy"),
            (500, "rejected", "retry"),
            (501, "rejected", "rejected"),
            (502, "retry", "retry"),
            (503, "busy", "busy"),
            (504, "retry", "retry"),
            (302, "rejected", "rejected"),
            (101, "rejected", "rejected"),
        ] {
            assert_eq!(kind(of_http(status, None, "", true)), otlp, "{status}");
            assert_eq!(kind(of_http(status, None, "", false)), others, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(784_111_770).expect("in range");
        let read = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(read(" 120 "), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for nonsense in ["", "-5", "soon", "1e9", "99999999999999"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn grpc_codes_are_judged_by_otlp_s_table() {
        let status = |code: i32| GrpcStatus {
            code,
            ..GrpcStatus::default()
        };
        let retryable: Vec<i32> = (1..20)
            .filter(|code| kind(status(*code).outcome()) != "rejected")
            .collect();
        assert_eq!(retryable, RETRYABLE_CODES);
        assert_eq!(kind(status(14).outcome()), "busy");
        let exhausted = GrpcStatus {
            retry_after: Some(Duration::from_secs(3)),
            ..status(8)
        };
        assert_eq!(kind(exhausted.outcome()), "busy");
    }

    #[test]
    fn a_status_is_read_with_its_details() {
        let delay = RetryDelay {
            seconds: 5,
            nanos: 500_000_000,
        };
        let info = RetryInfo {
            retry_delay: Some(delay),
        };
        let any = AnyMessage {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: info.encode_to_vec(),
        };
        let details = RpcStatus {
            message: "x".into(),
            details: vec![any],
        };
        let padded = base64::engine::general_purpose::STANDARD.encode(details.encode_to_vec());
        for text in [padded.as_str(), padded.trim_end_matches('=')] {
            let status = GrpcStatus::read("8", b"too%20much%zz%", Some(text.as_bytes()));
            assert_eq!(status.retry_after, Some(Duration::from_millis(5500)));
            assert_eq!(status.message, "too much%zz%");
        }
        assert_eq!(GrpcStatus::read("x", b"", Some(b"!!")).code, 2);
        assert_eq!(GrpcStatus::of_http(503).code, 14);
    }

    #[test]
    fn a_backend_s_words_are_cut_and_harmless() {
        let long = shown("\u{1b}[31mevil\n".repeat(100));
        assert!(
            long.len() < 2000 && !long.contains(['\u{1b}', '\n']),
            "{long}"
        );
    }
}
