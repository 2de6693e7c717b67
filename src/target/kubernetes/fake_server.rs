//! An API server for tests: plain HTTP on loopback, one answer after another, the last one for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Method and target of a request, and its token.
type Asked = (String, Option<String>);

#[derive(Debug)]
pub(super) struct FakeApi {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<(u16, String)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeApi {
    pub fn start(answers: Vec<(u16, String)>) -> FakeApi {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("bound");
        let answers = Arc::new(Mutex::new(answers));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (to_give, to_keep, over) = (answers.clone(), asked.clone(), is_over.clone());
        let serve = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up in the middle is its own business.
                let _ = stream.and_then(|stream| answer(stream, &to_give, &to_keep));
            }
        };
        let thread = Some(std::thread::spawn(serve));
        FakeApi {
            address,
            answers,
            asked,
            is_over,
            thread,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// From now on.
    pub fn answers(&self, answers: Vec<(u16, String)>) {
        *self.answers.lock().expect("not poisoned") = answers;
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes it up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

fn answer(
    mut stream: TcpStream,
    answers: &Mutex<Vec<(u16, String)>>,
    asked: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new((&stream).take(1 << 16)).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let request = first.trim_end_matches(" HTTP/1.1").to_owned();
    let mut token = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = Some(value.to_owned());
        }
    }
    asked.lock().expect("not poisoned").push((request, token));
    let (status, body) = {
        let mut answers = answers.lock().expect("not poisoned");
        match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nlocation: /elsewhere\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
