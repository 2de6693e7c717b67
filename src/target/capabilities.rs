//! The capabilities that decide what a profiler may see, as held by this process.
//!
//! In: the hexadecimal mask of `CapEff` in `/proc/self/status`. Out: a [`CapSet`].
//! It does not decide what follows from them; `doctor` does. Source: capabilities(7), `linux/capability.h`.

use std::path::Path;

use super::small_file::{field, read_text};

/// A capability that matters here; the number is its bit in the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    DacReadSearch = 2,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    IpcLock = 14,
    SysPtrace = 19,
    SysAdmin = 21,
    SysNice = 23,
    SysResource = 24,
    Syslog = 34,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    /// As in Kubernetes manifests: `SYS_PTRACE`.
    pub fn name(self) -> &'static str {
        match self {
            Capability::DacReadSearch => "DAC_READ_SEARCH",
            Capability::Kill => "KILL",
            Capability::Setgid => "SETGID",
            Capability::Setuid => "SETUID",
            Capability::IpcLock => "IPC_LOCK",
            Capability::SysPtrace => "SYS_PTRACE",
            Capability::SysAdmin => "SYS_ADMIN",
            Capability::SysNice => "SYS_NICE",
            Capability::SysResource => "SYS_RESOURCE",
            Capability::Syslog => "SYSLOG",
            Capability::Perfmon => "PERFMON",
            Capability::Bpf => "BPF",
            Capability::CheckpointRestore => "CHECKPOINT_RESTORE",
        }
    }

    /// As for `setcap`: `cap_sys_ptrace`.
    pub fn setcap_name(self) -> String {
        format!("cap_{}", self.name().to_ascii_lowercase())
    }
}

/// The effective capabilities of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

impl CapSet {
    /// From 16 hexadecimal digits; a mask that cannot be read counts as no capability at all.
    pub fn parse(mask: &str) -> CapSet {
        CapSet(u64::from_str_radix(mask.trim(), 16).unwrap_or(0))
    }

    /// Of this process.
    pub fn own() -> CapSet {
        let status = read_text(Path::new("/proc/self/status")).unwrap_or_default();
        CapSet::parse(field(&status, "CapEff:").unwrap_or(""))
    }

    pub fn of(capabilities: &[Capability]) -> CapSet {
        CapSet(capabilities.iter().map(|c| 1 << *c as u32).sum())
    }

    /// A bit for each.
    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_kernel() {
        let almost_all = CapSet::parse("000001fffeffffff");
        assert!(almost_all.has(Capability::CheckpointRestore) && almost_all.has(Capability::Bpf));
        assert!(!almost_all.has(Capability::SysResource), "bit 24 is clear");
        let perfmon_bpf = CapSet::parse("000000c000000000");
        assert_eq!(
            perfmon_bpf,
            CapSet::of(&[Capability::Perfmon, Capability::Bpf])
        );
        assert_eq!(CapSet::parse("not a mask"), CapSet::default());
    }

    #[test]
    fn names_for_setcap() {
        assert_eq!(Capability::SysPtrace.setcap_name(), "cap_sys_ptrace");
    }
}
