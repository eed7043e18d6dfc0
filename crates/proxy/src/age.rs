//! What happens when the control plane has been silent for long: said first, denied later.

use tacit_decide::offline::{self, Freshness};

use crate::control::Control;
use crate::log;
use crate::worker::Order;

/// Judges how old the node's knowledge is; says each change, and closes what lives once it is
/// too old.
pub(crate) async fn judge(control: &Control) {
    let (former, now) = control.shared.judge_freshness();
    if std::mem::discriminant(&former) == std::mem::discriminant(&now) {
        return;
    }
    match now {
        Freshness::Fresh => log::info("offline", "the control plane is heard again"),
        Freshness::Stale { left } => {
            let left = left.as_secs();
            let text = format!("no control plane for long: in {left} s everything is denied");
            log::warn("offline", text);
        }
        Freshness::Expired => {
            let Err(denial) = offline::admit(now) else {
                return;
            };
            log::warn("offline", format!("everything is denied: {denial}"));
            let reason: std::sync::Arc<str> = denial.to_string().into();
            control
                .workers
                .to_all(|| Order::CloseAll(reason.clone()))
                .await;
        }
    }
}
