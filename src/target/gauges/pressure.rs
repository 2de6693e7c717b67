//! Pressure stall information: for how long tasks could not go on for lack of CPU, memory or I/O.
//!
//! In: the service's cgroup. Out: totals for a reading. Source: psi.rst.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::profile::CapacityPoint;
use crate::target::cgroup::{Cgroup, parse_psi_full_us, parse_psi_some_us};
use crate::target::small_file::HeldFile;

/// Pressure files of the service's v2 directory, else of the node.
#[derive(Debug)]
pub(super) struct PressureFiles {
    /// CPU, memory and I/O.
    files: [Option<HeldFile>; 3],
    /// `cgroup` or `node`.
    pub(super) scope: &'static str,
}

impl PressureFiles {
    pub(super) fn open(cgroup: Option<&Cgroup>, gaps: &mut BTreeSet<String>) -> PressureFiles {
        let own = cgroup
            .and_then(|c| c.unified.as_ref())
            .filter(|place| !place.is_root());
        let open = |paths: [PathBuf; 3]| paths.map(|path| open_readable(&path));
        if let Some(place) = own {
            let files = open(["cpu", "memory", "io"].map(|r| place.file(&format!("{r}.pressure"))));
            if files.iter().any(Option::is_some) {
                let scope = "cgroup";
                return PressureFiles { files, scope };
            }
        }
        let files = open(["cpu", "memory", "io"].map(|r| Path::new("/proc/pressure").join(r)));
        if files.iter().all(Option::is_none) {
            gaps.insert(
                "pressure stall information is not available (kernel built or booted without psi)"
                    .into(),
            );
        }
        let scope = "node";
        PressureFiles { files, scope }
    }

    pub(super) fn read_into(&self, point: &mut CapacityPoint, buffer: &mut [u8]) {
        let mut totals = |which: usize| {
            let file = self.files.get(which).and_then(Option::as_ref);
            let text = file.and_then(|file| file.read(buffer)).unwrap_or("");
            (parse_psi_some_us(text), parse_psi_full_us(text))
        };
        (point.psi_cpu_some_us, point.psi_cpu_full_us) = totals(0);
        (point.psi_memory_some_us, point.psi_memory_full_us) = totals(1);
        (point.psi_io_some_us, point.psi_io_full_us) = totals(2);
    }
}

/// With `psi=0` the files exist and opening succeeds, reading fails.
fn open_readable(path: &Path) -> Option<HeldFile> {
    let file = HeldFile::open(path).ok()?;
    file.read(&mut [0; 256]).is_some().then_some(file)
}
