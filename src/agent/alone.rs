//! For tests of what belongs to a whole process: the statuses of its children, its signal handlers.

use std::process::Command;

const ALONE: &str = "LB_TEST_HAS_A_PROCESS_OF_ITS_OWN";

/// Whether the calling test has a process to itself. If not, this starts one for it (the test executable once more, with that
/// test only) and checks that the test passes there, so that the caller can return.
pub(super) fn has_own_process(module: &str, test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("{}::{test}", module.trim_start_matches("lb::"));
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
