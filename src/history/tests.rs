//! Two writers at once, a writer that is killed, and files that are not what they should be.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Figures that are written together.
const BATCH: usize = 50;
/// Names the file and the service for [`a_writer`].
const WRITER: &str = "PERFPROF_TEST_HISTORY_WRITER";
const BATCHES: &str = "PERFPROF_TEST_HISTORY_BATCHES";

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// The batch with this number: figures of one metric, all at one time.
fn batch(service: &str, number: usize) -> Vec<Measurement> {
    let figure = |ix: usize| Measurement {
        service: service.into(),
        metric: format!("m{ix}"),
        value: number as f64,
        unit: "ms".into(),
        timestamp: time(1_000_000 + number as i64),
        source: "test".into(),
    };
    (0..BATCH).map(figure).collect()
}

/// How many batches there are of a service; fails when one is there in part.
fn whole_batches(path: &Path, service: &str) -> usize {
    let history = History::open_existing(path).expect("a history");
    let all = history.since(time(0)).expect("readable");
    let mut sizes = std::collections::BTreeMap::new();
    for figure in all.iter().filter(|m| m.service == service) {
        *sizes.entry(figure.timestamp).or_insert(0) += 1;
    }
    assert!(sizes.values().all(|size| *size == BATCH), "{sizes:?}");
    sizes.len()
}

/// Not a test but what others start: writes batches and says each number when it is committed.
#[test]
#[ignore = "a writer for the other tests"]
fn a_writer() {
    let path = std::env::var(WRITER).expect("the file");
    let batches: usize = std::env::var(BATCHES)
        .expect("a number")
        .parse()
        .expect("a number");
    let service = format!("of-{}", std::process::id());
    for number in 0..batches {
        let mut history = History::open(Path::new(&path)).expect("a history");
        let added = history
            .add(&batch(&service, number), time(2_000_000))
            .expect("added");
        assert_eq!((added.new, added.known), (BATCH, 0));
        writeln!(std::io::stdout(), "committed {number}").expect("somebody reads");
    }
}

fn start_writer(path: &Path, batches: usize) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "history::tests::a_writer",
            "--ignored",
            "--nocapture",
        ])
        .env(WRITER, path)
        .env(BATCHES, batches.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts")
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(FILE);
    // Both also race for making the file.
    let writers = [start_writer(&path, 20), start_writer(&path, 20)];
    for writer in writers {
        let service = format!("of-{}", writer.id());
        let output = writer.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(whole_batches(&path, &service), 20);
    }
    let left: Vec<_> = fs::read_dir(dir.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "one file: {left:?}");
}

#[test]
fn a_writer_that_is_killed_leaves_whole_batches_and_all_that_it_had_committed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(FILE);
    for until in [0, 1, 3, 6] {
        let mut writer = start_writer(&path, 1_000_000);
        let service = format!("of-{}", writer.id());
        let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
        let mut said = lines
            .map(|line| line.expect("text"))
            .filter(|l| l.contains("committed"));
        let committed = said.by_ref().take(until).count();
        writer.kill().expect("SIGKILL");
        writer.wait().expect("it is gone");
        // What it had said until it was gone.
        let committed = committed + said.count();
        if !path.exists() {
            continue;
        }
        let found = whole_batches(&path, &service);
        // The last one may have been committed without being said.
        assert!(
            (committed..=committed + 1).contains(&found),
            "{committed} said, {found} found"
        );
        let mut history = History::open(&path).expect("still a history");
        history
            .add(&batch("after", until), time(0))
            .expect("still writable");
    }
}

#[test]
fn the_same_figures_are_added_once_and_found_by_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(FILE);
    let mut history = History::open(&path).expect("made");
    assert_eq!(history.latest().expect("readable"), None);
    for expected in [(BATCH, 0), (0, BATCH)] {
        let added = history.add(&batch("a", 1), time(9)).expect("added");
        assert_eq!((added.new, added.known), expected);
    }
    history.add(&batch("a", 2), time(9)).expect("added");
    let found = history.since(time(1_000_002)).expect("readable");
    let mut expected = batch("a", 2);
    expected.sort_by(|a, b| a.metric.cmp(&b.metric));
    assert_eq!(found, expected);
    assert_eq!(history.latest().expect("readable"), Some(time(1_000_002)));
}

/// A history of many pages.
fn large(path: &Path) {
    let mut history = History::open(path).expect("made");
    for number in 0..40 {
        history.add(&batch("a", number), time(9)).expect("added");
    }
}

#[test]
fn a_file_that_was_cut_or_damaged_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(FILE);
    large(&path);
    let whole = fs::read(&path).expect("written");
    assert!(whole.len() > 10 * 4096, "{} bytes", whole.len());
    let cuts = [
        0,
        1,
        99,
        100,
        4095,
        4096,
        8192,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ];
    let mut damaged: Vec<Vec<u8>> = cuts.map(|end| whole[..end].to_vec()).into();
    for at in [4096, 8192 + 3, whole.len() / 2] {
        let mut bytes = whole.clone();
        bytes[at..at + 64].fill(0xff);
        damaged.push(bytes);
    }
    damaged.push(b"not a database, but long enough to look like one\n".repeat(100));
    for bytes in damaged {
        fs::write(&path, &bytes).expect("writable");
        let error = History::open(&path).expect_err("refused");
        assert!(error.is_bad_input(), "{} bytes: {error:?}", bytes.len());
        assert_eq!(fs::read(&path).expect("there"), bytes, "left as it is");
    }
}

#[test]
fn somebody_else_s_database_and_what_is_no_file_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let refused = |path: &Path| {
        let error = History::open(path).expect_err("refused");
        assert!(error.is_bad_input(), "{error:?}");
        error.to_string()
    };
    let foreign = dir.path().join("foreign");
    let database = Connection::open(&foreign).expect("SQLite");
    database.execute_batch("CREATE TABLE t (a)").expect("SQL");
    drop(database);
    assert!(refused(&foreign).contains("another program's"));

    let trap = dir.path().join("trap");
    large(&trap);
    let database = Connection::open(&trap).expect("SQLite");
    let trigger = "CREATE TRIGGER x AFTER INSERT ON measurement BEGIN DELETE FROM measurement; END";
    database.execute_batch(trigger).expect("SQL");
    drop(database);
    assert!(refused(&trap).contains("tables"));

    let newer = dir.path().join("newer");
    large(&newer);
    let database = Connection::open(&newer).expect("SQLite");
    database
        .execute_batch("PRAGMA user_version = 2")
        .expect("SQL");
    drop(database);
    assert!(refused(&newer).contains("version 2"));

    let logging = dir.path().join("logging");
    large(&logging);
    let database = Connection::open(&logging).expect("SQLite");
    let mode: String = database
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .expect("SQL");
    assert_eq!(mode, "wal");
    drop(database);
    assert!(refused(&logging).contains("write-ahead"));

    let link = dir.path().join("link");
    let good = dir.path().join("good");
    large(&good);
    std::os::unix::fs::symlink(&good, &link).expect("link");
    assert!(refused(&link).contains("regular file"));
    assert!(refused(dir.path()).contains("regular file"));

    // A journal that is a link, as somebody might plant it.
    std::os::unix::fs::symlink(&trap, dir.path().join("good-journal")).expect("link");
    assert!(refused(&good).contains("journal"));
}

#[test]
fn a_folder_that_is_a_link_is_the_user_s_choice() {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(dir.path().join("real")).expect("folder");
    std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).expect("link");
    let path = dir.path().join("link").join(FILE);
    large(&path);
    assert_eq!(whole_batches(&path, "a"), 40);
}
