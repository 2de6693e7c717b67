//! Alpine's database: `/lib/apk/db/installed`, a paragraph for each package. `P:` is its name, `V:` its version, `F:` a
//! folder without the leading slash, and `R:` a file in the folder last named. Source: apk(5), "installed database".

use super::{Package, Reader, Wanted};
use crate::profile::PackageFact;

/// Newer systems keep it below `/usr`.
const DATABASES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// 1,000 packages have about 10 MB.
const MAX_BYTES: u64 = 64 << 20;

pub(super) fn find(reader: &mut Reader, wanted: &mut Wanted) {
    if wanted.is_empty() {
        return;
    }
    let mut found = DATABASES
        .iter()
        .filter_map(|path| reader.read(path, MAX_BYTES));
    let Some(database) = found.next() else { return };
    let text = String::from_utf8_lossy(&database);
    let mut package = Package::default();
    let mut folder = "";
    for line in text.lines() {
        match line.split_once(':') {
            None => {
                package = Package::default();
                folder = "";
            }
            Some(("P", name)) => package.name = name.to_owned(),
            Some(("V", version)) => package.version = version.to_owned(),
            Some(("F", name)) => folder = name,
            Some(("R", name))
                if PackageFact::is_word(&package.name)
                    && PackageFact::is_word(&package.version) =>
            {
                wanted.offer(format!("/{folder}/{name}").as_bytes(), || package.clone());
            }
            _ => {}
        }
    }
}
