//! Who may begin a recording: who shows the token.
//!
//! In: a file with the token, or none: then one is made and left in the data directory, for root only. Out: whether a request
//! shows it, as `Authorization: Bearer TOKEN` or as the password of `Basic`, which is what `go tool pprof http://:TOKEN@HOST/…`
//! sends (RFC 6750, RFC 7617).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};

const FILE: &str = "http-token";
const TOKEN_BYTES: usize = 24;
/// Shorter ones can be guessed.
const LEAST_CHARS: usize = 16;
const MOST_BYTES: u64 = 4096;

/// The token's hash: comparing hashes tells nothing about how much of a guess was right.
#[derive(Clone, Debug)]
pub struct Token([u8; 32]);

impl Token {
    /// Reads the token that somebody chose.
    pub fn read(path: &Path) -> io::Result<Token> {
        let mut text = String::new();
        File::open(path)?
            .take(MOST_BYTES)
            .read_to_string(&mut text)?;
        match text.trim() {
            text if text.len() >= LEAST_CHARS => Ok(Token(hash(text.as_bytes()))),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the token has less than {LEAST_CHARS} characters"),
            )),
        }
    }

    /// The token of an earlier run, or a new one.
    pub fn keep_in(data: &Path) -> io::Result<Token> {
        let path = data.join(FILE);
        if let Ok(token) = Token::read(&path) {
            return Ok(token);
        }
        let mut bytes = [0; TOKEN_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let beside = data.join(format!(".{FILE}"));
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(file, "{text}")?;
        std::fs::rename(&beside, &path)?;
        Ok(Token(hash(text.as_bytes())))
    }

    /// Whether a request does not show it.
    pub fn refuses(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| shown(value.as_bytes()));
        shown.is_none_or(|shown| hash(&shown) != self.0)
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The token in the header's value.
fn shown(value: &[u8]) -> Option<Vec<u8>> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.trim().as_bytes().to_vec()),
        "basic" => {
            let decoded = BASE64_STANDARD.decode(rest.trim()).ok()?;
            let colon = decoded.iter().position(|byte| *byte == b':')?;
            Some(decoded[colon + 1..].to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("a header"));
        headers
    }

    #[test]
    fn only_the_token_opens_in_both_spellings() {
        let token = Token(hash(b"open-sesame-please"));
        assert!(!token.refuses(&with("Bearer open-sesame-please")));
        // `printf ':open-sesame-please' | base64`, and with a user's name
        assert!(!token.refuses(&with("Basic Om9wZW4tc2VzYW1lLXBsZWFzZQ==")));
        assert!(!token.refuses(&with("basic bWU6b3Blbi1zZXNhbWUtcGxlYXNl")));
        for bad in [
            "Bearer open-sesame-pleas",
            "Bearer",
            "Basic !!",
            "open-sesame-please",
            "Bearer ",
        ] {
            assert!(token.refuses(&with(bad)), "{bad}");
        }
        assert!(token.refuses(&HeaderMap::new()));
    }

    #[test]
    fn a_token_is_made_once_and_is_for_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Token::keep_in(dir.path()).expect("made");
        let path = dir.path().join(FILE);
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.trim().len(), 2 * TOKEN_BYTES);
        assert!(!made.refuses(&with(&format!("Bearer {}", text.trim()))));
        let again = Token::keep_in(dir.path()).expect("kept");
        assert_eq!(again.0, made.0);
        std::fs::write(&path, "short").expect("written");
        assert!(Token::read(&path).is_err());
    }
}
