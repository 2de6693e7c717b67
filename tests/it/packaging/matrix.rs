//! The packagings that need nothing but a program and what lies beside it or in its root.

use crate::support::{Need, missing};

use super::truth::Tells;
use super::{Packaging, Recorded, row};

fn assert_all(rows: &[Packaging]) {
    if missing(&[Need::Bpf]) {
        return;
    }
    if let Some(recorded) = Recorded::of(rows, &[]) {
        recorded.assert_as_known();
    }
}

/// Numbers of versions, with and without what compilers add to them, and how files are named in them.
#[test]
fn dwarf_of_every_version_gives_the_same_lines() {
    const CLANG: &[&str] = &["clang"];
    assert_all(&[
        row("dwarf-2", "gcc -gdwarf-2 $ALL -o program"),
        row("dwarf-3", "gcc -gdwarf-3 $ALL -o program"),
        row("dwarf-4", "gcc -gdwarf-4 $ALL -o program"),
        row("dwarf-5", "gcc -gdwarf-5 $ALL -o program"),
        row(
            "dwarf-3-strict",
            "gcc -gdwarf-3 -gstrict-dwarf $ALL -o program",
        ),
        row(
            "dwarf-4-strict",
            "gcc -gdwarf-4 -gstrict-dwarf $ALL -o program",
        ),
        row(
            "dwarf-5-strict",
            "gcc -gdwarf-5 -gstrict-dwarf $ALL -o program",
        ),
        row("dwarf64", "gcc -gdwarf-5 -gdwarf64 $ALL -o program"),
        row(
            "type-units",
            "gcc -gdwarf-4 -fdebug-types-section $ALL -o program",
        ),
        row("g1", "gcc -g1 $ALL -o program"),
        row("lto", "gcc -g -flto $ALL -o program"),
        row("clang-2", "clang -gdwarf-2 $ALL -o program").needs(CLANG),
        row("clang-4", "clang -gdwarf-4 $ALL -o program").needs(CLANG),
        row("clang-5", "clang -gdwarf-5 $ALL -o program").needs(CLANG),
        row("clang-gmlt", "clang -gline-tables-only $ALL -o program").needs(CLANG),
        row(
            "relative",
            "here=$PWD; cd $SRC; gcc -g $CFLAGS packaged.c packaged_part.c -o $here/program",
        ),
        row(
            "clang-relative",
            "here=$PWD; cd $SRC; clang -g $CFLAGS packaged.c packaged_part.c -o $here/program",
        )
        .needs(CLANG),
        row("symbols-only", "gcc $ALL -o program").tells(Tells::Names),
        row("stripped", "gcc -s $ALL -o program").tells(Tells::Nothing("no-symbol")),
        row(
            "exported",
            "gcc -g -rdynamic $ALL -o program; strip -g program",
        )
        .tells(Tells::Names),
    ]);
}

#[test]
fn compressed_sections_are_read_in_every_format() {
    assert_all(&[
        row("zlib", "gcc -g $ALL -Wl,--compress-debug-sections=zlib -o program"),
        row("zdebug", "gcc -g $ALL -o program; objcopy --compress-debug-sections=zlib-gnu program"),
        row("zdebug-4", "gcc -gdwarf-4 $ALL -o program; objcopy --compress-debug-sections=zlib-gnu program"),
        row("zstd", "gcc -g $ALL -o program; objcopy --compress-debug-sections=zstd program"),
        row("zlib-objects", "units gcc -g -gz=zlib; gcc -gz=none *.o -o program"),
        row(
            "zlib-apart",
            "gcc -g $ALL -o program; debug_file; objcopy --compress-debug-sections=zlib program.debug;
             objcopy --strip-all --add-gnu-debuglink=program.debug program",
        ),
    ]);
}

#[test]
fn programs_of_any_linker_and_at_any_address_have_their_lines() {
    assert_all(&[
        row("fixed", "gcc -g -no-pie $ALL -o program"),
        row("static", "gcc -g -static $ALL -o program"),
        row("static-pie", "gcc -g -static-pie $ALL -o program"),
        row("gold", "gcc -g -fuse-ld=gold $ALL -o program").needs(&["ld.gold"]),
        row("lld", "gcc -g -fuse-ld=lld $ALL -o program").needs(&["ld.lld"]),
        row("mold", "gcc -g -fuse-ld=mold $ALL -o program").needs(&["ld.mold"]),
        row(
            "mold-gz",
            "gcc -g -fuse-ld=mold -Wl,--compress-debug-sections=zlib $ALL -o program",
        )
        .needs(&["ld.mold"]),
        row(
            "sections",
            "gcc -g -ffunction-sections -Wl,--gc-sections $ALL -o program",
        ),
        row("no-build-id", "gcc -g -Wl,--build-id=none $ALL -o program"),
        row("musl", "musl-gcc -g -static $ALL -o program").needs(&["musl-gcc"]),
    ]);
}

/// The program is stripped; what it tells stands in another file, found by its name or its build ID.
#[test]
fn separate_debug_information_is_found() {
    assert_all(&[
        row(
            "link-beside",
            "gcc -g -Wl,--build-id=none $ALL -o program; debug_file;
             objcopy --strip-all --add-gnu-debuglink=program.debug program",
        ),
        row(
            "link-dot-debug",
            "gcc -g -Wl,--build-id=none $ALL -o program; debug_file;
             objcopy --strip-all --add-gnu-debuglink=program.debug program; install_debug program.debug .debug/program.debug",
        ),
        row(
            "link-in-root",
            "gcc -g -static -Wl,--build-id=none $ALL -o program; debug_file;
             objcopy --strip-all --add-gnu-debuglink=program.debug program;
             install_debug program.debug root/usr/lib/debug/app/program.debug; install_debug program root/app/program",
        )
        .in_root(),
        row(
            "build-id-in-root",
            "gcc -g -static $ALL -o program; debug_file; objcopy --strip-all program;
             install_debug program.debug root/usr/lib/debug/$(by_build_id); install_debug program root/app/program",
        )
        .in_root(),
        row(
            "minidebug",
            // As the Fedora packages have it: the symbols of functions that the dynamic table lacks, packed.
            "gcc -g $ALL -o program; nm -D program --format=posix --defined-only | awk '{ print $1 }' | sort > dynsyms;
             nm program --format=posix --defined-only | awk '{ if ($2 == \"T\" || $2 == \"t\") print $1 }' | sort > funcsyms;
             comm -13 dynsyms funcsyms > keep; debug_file;
             objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols=keep program.debug mini;
             rm program.debug; xz mini; strip --strip-all -R .comment program;
             objcopy --add-section .gnu_debugdata=mini.xz program",
        )
        .needs(&["xz"])
        .tells(Tells::Names),
    ]);
}

/// What several units or files have in common stands once, elsewhere.
#[test]
fn debug_information_shared_by_dwz_is_followed() {
    const DWZ: &[&str] = &["dwz"];
    assert_all(&[
        row("dwz-4", "gcc -gdwarf-4 $ALL -o program; dwz program").needs(DWZ),
        row("dwz-5", "gcc -gdwarf-5 $ALL -o program; dwz program").needs(DWZ),
        row("dwz-shared", "gcc -gdwarf-4 $ALL -o program; cp program twin; dwz -m shared.dwz program twin; rm twin")
            .needs(DWZ),
        row(
            "dwz-shared-5",
            "gcc -gdwarf-5 $ALL -o program; cp program twin; dwz -m shared.dwz program twin; rm twin",
        )
        .needs(DWZ),
        row(
            // As Debian's and Fedora's debug packages have it.
            "dwz-in-root",
            "gcc -gdwarf-4 -static $ALL -o program; debug_file; cp program.debug twin; objcopy --strip-all program
             dwz -m shared.dwz -M ../../.dwz/shared.dwz program.debug twin; rm twin
             install_debug program.debug root/usr/lib/debug/$(by_build_id)
             install_debug shared.dwz root/usr/lib/debug/.dwz/shared.dwz; install_debug program root/app/program",
        )
        .needs(DWZ)
        .in_root(),
    ]);
}

/// Most of the debug information stays in the units' own files, or in one file of all of them.
#[test]
fn split_debug_information_is_joined() {
    const CLANG: &[&str] = &["clang"];
    const CLANG_DWP: &[&str] = &["clang", "llvm-dwp"];
    assert_all(&[
        row("split-4", "units gcc -gdwarf-4 -gsplit-dwarf; gcc *.o -o program; rm *.o"),
        row("split-5", "units gcc -gdwarf-5 -gsplit-dwarf; gcc *.o -o program; rm *.o"),
        row("split-gz", "units gcc -gdwarf-5 -gsplit-dwarf -gz; gcc -gz *.o -o program; rm *.o"),
        row("split-clang-4", "units clang -gdwarf-4 -gsplit-dwarf; clang *.o -o program; rm *.o").needs(CLANG),
        row("split-clang-5", "units clang -gdwarf-5 -gsplit-dwarf; clang *.o -o program; rm *.o").needs(CLANG),
        row(
            "split-inlining",
            "units clang -gdwarf-5 -gsplit-dwarf -fsplit-dwarf-inlining; clang *.o -o program; rm *.o",
        )
        .needs(CLANG),
        row("dwp-4", "units gcc -gdwarf-4 -gsplit-dwarf; gcc *.o -o program; dwp -e program; rm *.o *.dwo")
            .needs(&["dwp"]),
        // GNU dwp 2.40 does not survive what gcc writes in version 5.
        row(
            "dwp-5",
            "units gcc -gdwarf-5 -gsplit-dwarf; gcc *.o -o program; llvm-dwp -e program -o program.dwp; rm *.o *.dwo",
        )
        .needs(&["llvm-dwp"]),
        row(
            "dwp-clang-4",
            "units clang -gdwarf-4 -gsplit-dwarf; clang *.o -o program; llvm-dwp -e program -o program.dwp; rm *.o *.dwo",
        )
        .needs(CLANG_DWP),
        row(
            "dwp-clang-5",
            "units clang -gdwarf-5 -gsplit-dwarf; clang *.o -o program; llvm-dwp -e program -o program.dwp; rm *.o *.dwo",
        )
        .needs(CLANG_DWP),
        row(
            "dwp-stripped",
            "units clang -gdwarf-5 -gsplit-dwarf; clang *.o -o program; llvm-dwp -e program -o program.dwp; rm *.o *.dwo
             debug_file; objcopy --strip-all --add-gnu-debuglink=program.debug program",
        )
        .needs(CLANG_DWP),
    ]);
}

/// Go's own table of functions stays where debug information and symbols are stripped.
#[test]
fn programs_in_go_have_their_lines() {
    const GO: &[&str] = &["go"];
    assert_all(&[
        row("go", "go build -o program $SRC/packaged.go")
            .needs(GO)
            .tells(Tells::GoLines),
        row(
            "go-no-dwarf",
            "go build -ldflags=-w -o program $SRC/packaged.go",
        )
        .needs(GO)
        .tells(Tells::GoLines),
        row(
            "go-stripped",
            "go build -ldflags='-s -w' -o program $SRC/packaged.go",
        )
        .needs(GO)
        .tells(Tells::GoLines),
        row(
            "go-pie",
            "go build -buildmode=pie -ldflags='-s -w' -o program $SRC/packaged.go",
        )
        .needs(GO)
        .tells(Tells::GoLines),
    ]);
}
