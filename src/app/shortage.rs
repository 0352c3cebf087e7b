//! Tells the person on call that file descriptors have run out. Workers do something about it by themselves.

use std::{sync::Arc, time::Duration};

use crate::{
    net::descriptor_limit,
    registry::{Registry, Shortage},
};

/// The shortest time between two messages: a shortage is met many times a second.
const PERIOD: Duration = Duration::from_secs(1);

/// Says so once a second as long as descriptors are short. Never ends.
pub(super) async fn tell(registry: Arc<Registry>) {
    let mut shortages = registry.shortages().follow();
    let mut told = 0;
    while shortages.changed().await.is_ok() {
        let (count, last) = *shortages.borrow_and_update();
        tracing::error!("{}", sentence(last, count - told, descriptor_limit()));
        told = count;
        tokio::time::sleep(PERIOD).await;
    }
}

fn sentence(shortage: Shortage, times: u64, limit: Option<u64>) -> String {
    let (whose, remedy) = match shortage {
        Shortage::Process => {
            let limit = limit.map_or_else(String::new, |limit| format!(" (this process may have {limit})"));
            (limit, "raise the limit: LimitNOFILE= for systemd, --ulimit nofile= for Docker, ulimit -n in a shell")
        }
        Shortage::System => (" in the whole system".to_owned(), "raise the limit: sysctl fs.file-max"),
    };
    format!(
        "no file descriptors left{whose}, {times} times since the last message: closing connections that are idle; {remedy}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_to_do() {
        let of_process = sentence(Shortage::Process, 3, Some(1024));
        assert!(of_process.contains("(this process may have 1024), 3 times"), "{of_process}");
        assert!(of_process.contains("LimitNOFILE=") && of_process.contains("ulimit -n"), "{of_process}");
        assert!(sentence(Shortage::System, 1, None).contains("fs.file-max"));
    }
}
