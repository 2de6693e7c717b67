//! What is wrong with each file, and what still must be told of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::proc::{cpu_ns, state, wait_until};
use crate::support::stacks::BY_TABLES;
use crate::support::{Need, Record, missing};

use super::super::row;
use super::super::spoil::Elf;
use super::super::truth::{self, Tells};
use super::{BYSTANDER, assert_survived, children, hostile, record, run};

const ENDLESS: &str = "gcc $ALL -Wa,-I$SRC $SRC/endless.s -o program";

#[test]
fn sections_that_lie_end_in_a_reason() {
    const GOOD: &str = "gcc -g $ALL -o program";
    let names = Tells::Names;
    assert_survived(&[
        hostile("many-sections", GOOD, Elf::many_sections),
        hostile("sections-outside", GOOD, Elf::sections_outside),
        hostile("info-outside", GOOD, |elf| elf.outside(".debug_info")).tells(names),
        hostile("info-endless", GOOD, |elf| elf.endless(".debug_info")).tells(names),
        hostile("abbrev-endless", GOOD, |elf| elf.endless(".debug_abbrev")).tells(names),
        hostile("line-outside", GOOD, |elf| elf.outside(".debug_line")),
        hostile("symbols-endless", GOOD, |elf| elf.endless(".symtab")),
        hostile("symbols-sizeless", GOOD, |elf| {
            elf.entries_without_size(".symtab")
        }),
        hostile("strings-outside", "gcc $ALL -o program", |elf| {
            elf.outside(".strtab")
        }),
        hostile("info-noise", GOOD, |elf| elf.noise(".debug_info")),
        hostile("abbrev-noise", GOOD, |elf| elf.noise(".debug_abbrev")),
        hostile("line-noise", GOOD, |elf| elf.noise(".debug_line")),
        hostile("str-noise", "gcc -g $ALL -o program", |elf| {
            elf.noise(".debug_line_str")
        }),
        hostile("unwind-endless", GOOD, |elf| elf.endless(".eh_frame")),
        hostile("other-class", GOOD, |elf| elf.0[4] = 1),
    ]);
}

#[test]
fn packed_sections_that_would_fill_the_memory_are_refused() {
    const ZEROS: &str = "gcc -g $ALL -o program; truncate -s 160M zeros; objcopy --update-section .debug_info=zeros program
                         objcopy --compress-debug-sections=zlib program; rm zeros";
    const ZEROS_ZSTD: &str = "gcc -g $ALL -o program; truncate -s 160M zeros; objcopy --update-section .debug_info=zeros program
                              objcopy --compress-debug-sections=zstd program; rm zeros";
    const XZ: &str =
        "gcc -s $ALL -o program; truncate -s 160M zeros; xz -0 < zeros > mini; rm zeros
                      objcopy --add-section .gnu_debugdata=mini program; rm mini";
    const XZ_OF_ITSELF: &str = "gcc $ALL -o program; xz -0 < program > mini; strip program
                                objcopy --add-section .gnu_debugdata=mini program; rm mini";
    let names = Tells::Names;
    assert_survived(&[
        hostile("claims-8-gb", "gcc -g -gz $ALL -o program", |elf| {
            elf.claims(".debug_info", 8 << 30)
        })
        .tells(names),
        hostile("claims-all", "gcc -g -gz $ALL -o program", |elf| {
            elf.claims(".debug_info", u64::MAX)
        })
        .tells(names),
        hostile("bomb-zlib", ZEROS, |_| ()).tells(names),
        hostile("bomb-zlib-small", ZEROS, |elf| {
            elf.claims(".debug_info", 1000)
        })
        .tells(names),
        hostile("bomb-zstd", ZEROS_ZSTD, |_| ()).tells(names),
        hostile("bomb-zstd-small", ZEROS_ZSTD, |elf| {
            elf.claims(".debug_info", 1000)
        })
        .tells(names),
        hostile("bomb-xz", XZ, |_| ())
            .needs(&["xz"])
            .tells(Tells::Nothing("no-symbol")),
        hostile("mini-good", XZ_OF_ITSELF, |_| ())
            .needs(&["xz"])
            .tells(names),
        hostile("mini-dictionary", XZ_OF_ITSELF, Elf::large_dictionary).needs(&["xz"]),
        hostile("mini-noise", XZ_OF_ITSELF, |elf| {
            elf.noise(".gnu_debugdata")
        })
        .needs(&["xz"])
        .tells(Tells::Nothing("no-symbol")),
    ]);
}

#[test]
fn debug_information_in_circles_or_without_end_is_given_up() {
    let names = Tells::Names;
    assert_survived(&[
        hostile(
            "cycles",
            "gcc $ALL -Wa,-I$SRC $SRC/cycles.s -o program",
            |_| (),
        )
        .tells(names),
        hostile(
            "claims",
            "gcc $ALL -Wa,-I$SRC $SRC/claims.s -o program",
            |_| (),
        ),
        hostile(
            "nesting",
            "gcc $ALL -Wa,-I$SRC $SRC/nesting.s -o program",
            |_| (),
        ),
        hostile("endless", ENDLESS, |_| ()),
    ]);
}

/// Names of further files lead to nothing that blocks, that never ends, or that is not the target's.
#[test]
fn links_to_other_files_lead_nowhere_they_should_not() {
    const LINK: &str = "gcc -g -Wl,--build-id=none $ALL -o program; debug_file; strip -g program
                        objcopy --add-gnu-debuglink=program.debug program; rm program.debug;";
    let fifo = format!("{LINK} mkfifo program.debug").leak();
    let device = format!("{LINK} ln -s /dev/zero program.debug").leak();
    let folder = format!("{LINK} mkdir program.debug").leak();
    // A name and a checksum as a `.gnu_debuglink` has them, or a build ID behind the name.
    const LINK_OUT: &str =
        "gcc $ALL -o program; printf '../../../../../../etc/passwd\\0\\0\\0\\0\\1\\2\\3\\4' > link
                            objcopy --add-section .gnu_debuglink=link program";
    const OWN_CRC: &str = "gcc $ALL -o program; printf '/etc/passwd\\0\\1\\2\\3\\4' > link
                           objcopy --add-section .gnu_debuglink=link program";
    const SHARED_OUT: &str =
        "gcc -g $ALL -o program; printf '/etc/passwd\\00012345678901234567890' > link
                              objcopy --add-section .gnu_debugaltlink=link program";
    const SHARED_FIFO: &str =
        "gcc -g $ALL -o program; mkfifo shared; printf 'shared\\00012345678901234567890' > link
                               objcopy --add-section .gnu_debugaltlink=link program";
    const SHARED_ENDLESS: &str =
        "gcc -g $ALL -o program; printf '/dev/zero\\00012345678901234567890' > link
                                  objcopy --add-section .gnu_debugaltlink=link program";
    const SPLIT: &str = "units gcc -gdwarf-5 -gsplit-dwarf; gcc *.o -o program; rm *.o;";
    let split_fifo = format!("{SPLIT} rm *.dwo; mkfifo packaged.dwo packaged_part.dwo").leak();
    let split_device = format!("{SPLIT} rm *.dwo; ln -s /dev/zero packaged.dwo").leak();
    let split_other =
        format!("{SPLIT} mv packaged.dwo aside; cp packaged_part.dwo packaged.dwo").leak();
    // Where the unit says to have been compiled: the profiler's own descriptors, or out of every folder.
    const COMPILED_IN: &str =
        "units gcc -gdwarf-4 -gsplit-dwarf -fdebug-prefix-map=$PWD=/proc/self/fd
                               gcc *.o -o program; rm *.o *.dwo";
    const COMPILED_UP: &str =
        "units gcc -gdwarf-4 -gsplit-dwarf -fdebug-prefix-map=$PWD=../../../../../../../../../etc
                               gcc *.o -o program; rm *.o *.dwo";
    let package_fifo = format!("{SPLIT} rm *.dwo; mkfifo program.dwp").leak();
    const ROOT: &str =
        "gcc -g -static $ALL -o program; id=$(by_build_id); strip -g program; mkdir -p root/app
                        mv program root/app/; mkdir -p root/usr/lib/debug/$(dirname $id);";
    let root_fifo = format!("{ROOT} mkfifo root/usr/lib/debug/$id").leak();
    let root_link =
        format!("{ROOT} ln -s /../../../../../../../etc/passwd root/usr/lib/debug/$id").leak();
    let root_circle = format!("{ROOT} ln -s $(basename $id) root/usr/lib/debug/$id").leak();
    let names = Tells::Names;
    let keep = |_: &mut Elf| ();
    assert_survived(&[
        hostile("link-fifo", fifo, keep).tells(names),
        hostile("link-device", device, keep).tells(names),
        hostile("link-folder", folder, keep).tells(names),
        hostile("link-out", LINK_OUT, keep).tells(names),
        hostile("link-absolute", OWN_CRC, keep).tells(names),
        hostile("shared-out", SHARED_OUT, keep),
        hostile("shared-fifo", SHARED_FIFO, keep),
        hostile("shared-endless", SHARED_ENDLESS, keep),
        hostile("split-fifo", split_fifo, keep),
        hostile("split-device", split_device, keep),
        hostile("split-other", split_other, keep),
        hostile("split-absolute", SPLIT, |elf| {
            elf.replace("packaged.dwo", "/dev/zero")
        }),
        hostile("split-up", SPLIT, |elf| {
            elf.replace("packaged_part.dwo", "../../dev/zero")
        }),
        hostile("split-descriptor", COMPILED_IN, |elf| {
            elf.replace("packaged.dwo", "0")
        }),
        hostile("split-passwd", COMPILED_UP, |elf| {
            elf.replace("packaged.dwo", "passwd")
        }),
        hostile("package-fifo", package_fifo, keep),
        hostile("root-fifo", root_fifo, keep).in_root().tells(names),
        hostile("root-link", root_link, keep).in_root().tells(names),
        hostile("root-circle", root_circle, keep)
            .in_root()
            .tells(names),
    ]);
}

#[test]
fn names_that_would_command_a_terminal_are_harmless() {
    const GOOD: &str = "gcc $ALL -o program";
    if missing(&[Need::Bpf, Need::Root]) {
        return;
    }
    let row = hostile("escapes", GOOD, |elf| {
        elf.replace("own_static", "\x1b[2J;\n<b>")
    });
    let folder = row.make().expect("gcc is there");
    let workload = row.packaging.start(folder.path());
    let survived = record(&[workload], &[], || ());
    survived.assert_bounded();
    let folded = survived.finished.folded();
    assert!(folded.total() > 100, "{}", folded.total());
    assert!(folded.with("part_outer") > 0);
}

/// A recorder that is killed takes its helpers with it, also one that is busy and will not be done.
#[test]
fn a_busy_helper_ends_with_the_recorder() {
    if missing(&[Need::Bpf, Need::Root]) {
        return;
    }
    let packaging = row("endless", ENDLESS);
    let made = packaging.make().expect("gcc is there");
    let workload = packaging.start(&made);
    let mut recording = Record::pid(workload.pid())
        .args(BY_TABLES)
        .args(["--no-symbol-cache"])
        .start();
    recording.wait_until_armed();
    workload.signal(Signal::SIGCONT);
    const BUSY_NS: u64 = 100_000_000; // more than it takes to begin
    let is_busy = |pid: &u32| cpu_ns(*pid) > BUSY_NS;
    // Helpers take what nobody else wants (SCHED_IDLE): with both cores busy that is a few thousandths of the time.
    let limit = Duration::from_secs(180);
    let mut busy = None;
    wait_until("a helper is busy", limit, || {
        busy = children(recording.pid()).into_iter().find(is_busy);
        busy.is_some()
    });
    let helper = busy.expect("waited for");
    recording.signal(Signal::SIGKILL);
    wait_until("the helper is gone", limit, || {
        matches!(state(helper), None | Some('Z'))
    });
}

/// A file that gets shorter while it is mapped: touching what is gone is a SIGBUS.
#[test]
fn a_debug_file_truncated_while_it_is_read_ends_nobody() {
    if missing(&[Need::Bpf, Need::Root]) {
        return;
    }
    // Large, so that reading it takes a while.
    let packaging = row(
        "truncated",
        "(echo 'static int made = 1;'; for i in $(seq 1500); do echo \"int made_$i(int x) { return x * $i + made; }\"; done) > all.c
         gcc -g $ALL all.c -o program; debug_file; objcopy --strip-all program
         install_debug program.debug debug/$(by_build_id)",
    );
    let made = packaging.make().expect("gcc is there");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    run("cp", &["-a".as_ref(), &made.join("debug"), folder.path()]);
    let debug_dir = folder.path().join("debug");
    let debug_file = only_file_below(&debug_dir);
    let whole = fs::read(&debug_file).expect("it can be read");
    let workload = packaging.start(&made);
    let pid = workload.pid();
    let good = BYSTANDER.make().expect("gcc is there");
    let bystander = BYSTANDER.packaging.start(good.path());
    let (bystander_pid, mut is_short) = (bystander.pid(), false);
    let words = ["--debug-dir".into(), debug_dir];
    let survived = record(&[workload, bystander], &words, || {
        is_short = !is_short;
        let done = match is_short {
            true => fs::OpenOptions::new()
                .write(true)
                .open(&debug_file)
                .and_then(|file| file.set_len(4096)),
            false => fs::write(&debug_file, &whole),
        };
        done.expect("it can be written");
    });
    survived.assert_bounded();
    for (pid, tells) in [(pid, None), (bystander_pid, Some(Tells::Lines))] {
        let stacks = survived.stacks_of(pid);
        let wrong = match tells {
            Some(tells) => truth::disagreement(&stacks, tells),
            None => truth::wrong_names(&stacks),
        };
        assert!(
            wrong.is_none(),
            "{}\n{}",
            wrong.unwrap_or_default(),
            survived.finished.stderr
        );
    }
}

/// Follows the only entry of each folder.
fn only_file_below(folder: &Path) -> PathBuf {
    let mut path = folder.to_path_buf();
    while path.is_dir() {
        let mut entries = fs::read_dir(&path).expect("a folder can be listed");
        path = entries.next().expect("an entry").expect("an entry").path();
    }
    path
}
