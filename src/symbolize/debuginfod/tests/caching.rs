//! Files that were fetched are kept, found, checked and not believed for ever.

use super::*;

#[test]
fn a_file_is_asked_for_by_its_path_and_kept_as_elfutils_keeps_it() {
    let stub = Stub::new(|stream, path| {
        let answer = match path == format!("/buildid/{}/debuginfo", id()) {
            true => good(),
            false => MISSING.into(),
        };
        let _ = stream.write_all(&answer);
    });
    let (dir, of_id) = cache();
    let first = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let file = first.fetch(id(), Artifact::DebugInfo).expect("there");
    assert_eq!(contents(file), elf_of(id()));
    assert_eq!(names_in(&of_id), ["debuginfo"]);
    let fetched = first.fetched();
    assert_eq!((fetched.from_servers, fetched.from_cache), (1, 0));
    assert_eq!(fetched.bytes, elf_of(id()).len() as u64);
    assert_eq!(first.received_bytes(), fetched.bytes);

    let second = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let file = second
        .fetch(id(), Artifact::DebugInfo)
        .expect("in the cache");
    assert_eq!(contents(file), elf_of(id()));
    assert_eq!((stub.asked(), second.fetched().from_cache), (1, 1));
    let missing = second.fetch(id(), Artifact::Executable);
    assert_eq!(missing.expect_err("not there"), FetchError::NotFound);
    assert_eq!(names_in(&of_id), ["debuginfo", "executable"]);
}

#[test]
fn that_nobody_has_it_is_remembered_for_a_while() {
    let stub = Stub::saying(MISSING);
    let (dir, of_id) = cache();
    let ask = || {
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("not there");
        assert_eq!(error, FetchError::NotFound);
        stub.asked()
    };
    assert_eq!((ask(), ask()), (1, 1));
    let age = |to: SystemTime| {
        let empty = File::open(of_id.join("debuginfo")).expect("an empty file");
        empty.set_modified(to).expect("own file");
    };
    age(SystemTime::now() - Duration::from_secs(700));
    assert_eq!((ask(), ask()), (2, 2), "older than ten minutes");
    age(SystemTime::now() + Duration::from_secs(700));
    assert_eq!(ask(), 3, "made in the future");
    std::fs::write(dir.path().join("cache_miss_s"), "7200\n").expect("written");
    age(SystemTime::now() - Duration::from_secs(700));
    assert_eq!(ask(), 3, "the folder's own patience");
}

#[test]
fn what_lies_in_the_cache_is_checked_and_replaced() {
    let stub = Stub::saying(good());
    let (dir, of_id) = cache();
    let file = of_id.join("debuginfo");
    let elsewhere = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::create_dir(&of_id).expect("made");
    let other: &dyn Fn() = &|| {
        std::fs::write(&file, elf_of(BuildId::from_hex("aa").expect("valid"))).expect("written")
    };
    let link: &dyn Fn() = &|| symlink(elsewhere.path(), &file).expect("linked");
    let fifo: &dyn Fn() =
        &|| nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("made");
    for (put, refused) in [(other, 1), (link, 0), (fifo, 0)] {
        put();
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let fetched = client.fetch(id(), Artifact::DebugInfo).expect("fetched");
        assert_eq!(contents(fetched), elf_of(id()));
        assert_eq!(client.fetched().refused_in_cache, refused);
        assert!(std::fs::symlink_metadata(&file).expect("there").is_file());
        std::fs::remove_file(&file).expect("removed");
    }
    assert_eq!(elsewhere.as_file().metadata().expect("there").len(), 0);
}

#[test]
fn a_cache_that_others_can_write_is_not_used_and_that_is_said() {
    let stub = Stub::saying(good());
    let (dir, of_id) = cache();
    let open_to = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("own")
    };
    open_to(dir.path(), 0o777);
    let unsafe_one = client(&[stub.url()], Some(dir.path()), PATIENCE);
    assert_eq!(
        contents(
            unsafe_one
                .fetch(id(), Artifact::DebugInfo)
                .expect("fetched")
        ),
        elf_of(id())
    );
    assert!(
        unsafe_one
            .fetched()
            .cache_refused
            .expect("said")
            .contains("others may write")
    );
    assert!(!of_id.exists());

    open_to(dir.path(), 0o700);
    std::fs::create_dir(&of_id).expect("made");
    open_to(&of_id, 0o777);
    let inner = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let error = inner
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nowhere to put it");
    assert_eq!(error.id(), "not-stored");

    let none = client(&[stub.url()], Some(Path::new("/proc/nowhere")), PATIENCE);
    assert!(none.fetched().cache_refused.is_some());
    assert!(none.fetch(id(), Artifact::DebugInfo).is_ok());
}

#[test]
fn the_cache_is_where_elfutils_keeps_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    let folder = |path: Option<&str>, xdg: Option<&str>| {
        default_folder_with(&[
            ("DEBUGINFOD_CACHE_PATH", path),
            ("XDG_CACHE_HOME", xdg),
            ("HOME", home.path().to_str()),
        ])
    };
    assert_eq!(folder(Some("/a"), Some("/b")), Some("/a".into()));
    assert_eq!(
        folder(Some("relative"), Some("/b")),
        Some("/b/debuginfod_client".into())
    );
    assert_eq!(
        folder(None, None),
        Some(home.path().join(".cache/debuginfod_client"))
    );
    let former = home.path().join(".debuginfod_client_cache");
    std::fs::create_dir(&former).expect("made");
    assert_eq!(folder(None, Some("/b")), Some(former));
    assert_eq!(default_folder_with(&[]), None);
}

fn default_folder_with(variables: &[(&str, Option<&str>)]) -> Option<PathBuf> {
    cache::default_folder(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found?.1.map(Into::into)
    })
}
