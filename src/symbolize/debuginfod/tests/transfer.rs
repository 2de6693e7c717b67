//! What comes over the wire is bounded and checked.

use super::*;

#[test]
fn a_server_that_never_answers_is_asked_once() {
    let stub = Stub::new(|_, _| thread::sleep(PATIENCE));
    let (dir, of_id) = cache();
    let client = client(&[stub.url()], Some(dir.path()), IMPATIENCE);
    for _ in 0..3 {
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing came");
        assert_eq!(error.id(), "timed-out");
    }
    assert_eq!(stub.asked(), 1);
    assert_eq!(client.fetched().failed["timed-out"].0, 3);
    assert_eq!(
        names_in(&of_id),
        [""; 0],
        "nothing is remembered as missing"
    );
}

#[test]
fn a_server_that_drips_is_not_waited_for() {
    let drip = |stream: &mut TcpStream, before: &str, drop: &[u8]| {
        let _ = stream.write_all(before.as_bytes());
        while stream.write_all(drop).is_ok() {
            thread::sleep(IMPATIENCE / 20);
        }
    };
    let in_body = Stub::new(move |stream, _| drip(stream, "HTTP/1.1 200 OK\r\n\r\n", b"x"));
    let in_header = Stub::new(move |stream, _| drip(stream, "HTTP/1.1 200 OK\r\nX: ", b"y"));
    for stub in [in_body, in_header] {
        let client = client(&[stub.url()], None, IMPATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing whole came");
        assert_eq!(error.id(), "timed-out");
    }
}

#[test]
fn a_server_that_takes_long_to_have_nothing_is_given_up_too() {
    let stub = Stub::new(|stream, _| {
        thread::sleep(IMPATIENCE * 2 / 3);
        let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    });
    let client = client(&[stub.url()], None, IMPATIENCE);
    for _ in 0..5 {
        client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing came");
    }
    assert!(stub.asked() <= 2, "asked {} times", stub.asked());
}

#[test]
fn a_server_that_is_not_there_is_told_from_a_file_that_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let (dir, of_id) = cache();
    let client = client(&[url], Some(dir.path()), PATIENCE);
    let error = client
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nobody there");
    assert_eq!(error.id(), "unreachable");
    assert_eq!(names_in(&of_id), [""; 0]);
}

#[test]
fn sizes_are_bounded_and_lies_about_them_found() {
    let elf = elf_of(id());
    let endless = Stub::new(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    assert_eq!(error_of(&endless), "too-large");
    let huge = Stub::saying(ok("Content-Length: 99999999999\r\n", &elf));
    assert_eq!(error_of(&huge), "too-large");
    let unpacked = Stub::saying(ok("X-DEBUGINFOD-SIZE: 99999999999\r\n", &elf));
    assert_eq!(error_of(&unpacked), "too-large");
    let refused = Stub::saying("HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(error_of(&refused), "too-large");
    let cut = Stub::saying(ok("Content-Length: 100000\r\n", &elf));
    assert_eq!(error_of(&cut), "bad-response");
    let other = Stub::saying(ok("X-DEBUGINFOD-SIZE: 9\r\n", &elf));
    assert_eq!(error_of(&other), "bad-response");
    let torn = Stub::saying(ok("Transfer-Encoding: chunked\r\n", b"1000\r\nabc"));
    assert_eq!(error_of(&torn), "bad-response");
    let packed = Stub::saying(ok("Content-Encoding: gzip\r\n", &elf));
    assert_eq!(error_of(&packed), "bad-response");
}

#[test]
fn what_is_no_answer_is_said_without_its_control_characters() {
    for answer in [
        "",
        "HTTP/1.1 503 \u{1b}[31m\r\n\r\n",
        "\u{1b}]0;x\u{7}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA:\u{1b}[2J\0\r\n\r\n",
    ] {
        let stub = Stub::saying(answer);
        let error = fetch_from(&stub).expect_err("no file");
        assert_eq!(error.id(), "bad-response", "{answer:?}: {error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let target = Stub::saying(good());
    let away = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/x\r\nContent-Length: 0\r\n\r\n",
        target.url()
    );
    assert_eq!(
        contents(fetch_from(&Stub::saying(away)).expect("followed")),
        elf_of(id())
    );

    let around = Stub::new(|stream, path| {
        // It says that it hangs up, as it does: a connection that is gone when it is used again cannot be told from a
        // server that is.
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {path}x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    assert_eq!(error_of(&around), "bad-response");
    assert!(around.asked() <= 10, "asked {} times", around.asked());
    for elsewhere in ["file:///etc/passwd", "gopher://a", "http://", "//"] {
        let stub = Stub::saying(format!(
            "HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
        ));
        fetch_from(&stub).expect_err("not followed");
    }
}

#[test]
fn another_build_is_refused_and_leaves_nothing_behind() {
    let other = elf_of(BuildId::from_hex("aa").expect("valid"));
    let (dir, of_id) = cache();
    for body in [&other[..], b"<html>", b""] {
        let stub = Stub::saying(ok(&format!("Content-Length: {}\r\n", body.len()), body));
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("another build");
        assert_eq!(error.id(), "wrong-build-id");
        assert_eq!(names_in(&of_id), [""; 0]);
    }
}

#[test]
fn the_next_server_is_asked_where_one_fails_or_has_nothing() {
    let wrong = Stub::saying(ok("", b"no ELF"));
    let (missing, having) = (Stub::saying(MISSING), Stub::saying(good()));
    let urls = [wrong.url(), missing.url(), having.url()];
    let (dir, _) = cache();
    let all = client(&urls, Some(dir.path()), PATIENCE);
    assert_eq!(
        contents(
            all.fetch(id(), Artifact::DebugInfo)
                .expect("the last has it")
        ),
        elf_of(id())
    );

    let (dir, of_id) = cache();
    let two = client(&urls[..2], Some(dir.path()), PATIENCE);
    let error = two
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("none has it");
    assert_eq!(error.id(), "wrong-build-id", "the more telling answer");
    assert_eq!(
        names_in(&of_id),
        [""; 0],
        "one of them may have it tomorrow"
    );
}

#[test]
fn an_https_server_that_speaks_no_tls_is_an_error() {
    let stub = Stub::saying("220 hello\r\n");
    let url = format!("https://{}", stub.address);
    let client = client(&[url], None, PATIENCE);
    client.fetch(id(), Artifact::DebugInfo).expect_err("no TLS");
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let client = client(&[format!("http://me:secret@{address}")], None, PATIENCE);
    let error = client
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nobody there");
    assert!(!error.to_string().contains("secret"), "{error}");
}
