//! `/proc/PID/mountinfo`: which file system is mounted where, and which part of it.
//!
//! In: the file's text. Out: one [`Mount`] per line that could be understood. Source: proc_pid_mountinfo(5).

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of that file system that is seen at `point`; `/` when all of it is. For cgroups it is relative to
    /// the cgroup namespace of whoever reads the file, so it may begin with `/..`.
    pub root: String,
    pub point: String,
    /// `cgroup`, `cgroup2`, `tracefs`, …
    pub fs_type: String,
    /// Options of the file system itself: for cgroup v1 the controllers, `rw,cpu,cpuacct`.
    pub super_options: String,
}

impl Mount {
    pub fn has_option(&self, name: &str) -> bool {
        self.super_options.split(',').any(|option| option == name)
    }
}

/// All mounts; a line that does not have the documented shape is left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // `36 35 98:0 /root /point opts [optional fields…] - type source super-options`
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    Some(Mount {
        root: unescape(before.next()?),
        point: unescape(before.next()?),
        fs_type: after.next()?.to_owned(),
        super_options: after.nth(1)?.to_owned(),
    })
}

/// Undoes the kernel's `\040` (octal) escapes for space, tab, newline, backslash and `#`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        match octal.and_then(octal_byte) {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_optional_fields_and_escapes() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    bogus line\n33 31 0:30 / /x rw - tmpfs";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, "/mnt 2");
        assert_eq!(mounts[0].root, "/mnt1");
        assert_eq!(mounts[0].fs_type, "ext3");
        assert!(mounts[1].has_option("cpuacct") && !mounts[1].has_option("cpua"));
    }

    #[test]
    fn odd_escapes_stay_as_they_are() {
        assert_eq!(unescape("a\\134b"), "a\\b");
        assert_eq!(unescape("a\\9zz"), "a\\9zz");
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("a\\777"), "a\\777");
        assert_eq!(unescape("a\\012b"), "a\nb");
    }
}
